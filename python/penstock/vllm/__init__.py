"""The vLLM connector: kv_connector "PenstockConnector", kv_connector_module_path "penstock.vllm".

The class is imported when it is asked for: vLLM loads this module as a plug-in in every process.
"""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Entry point of the group vllm.general_plugins: makes the connector known by its name."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    if "PenstockConnector" not in KVConnectorFactory._registry:  # plug-ins are loaded repeatedly
        KVConnectorFactory.register_connector(
            "PenstockConnector", "penstock.vllm", "PenstockConnector"
        )


def __getattr__(name: str) -> Any:
    if name == "PenstockConnector":
        from penstock.vllm.connector import PenstockConnector

        return PenstockConnector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
