"""LayerHooks: whether vLLM will ask for each layer of a forward pass before the layer is computed.

It does so from within its attention layers, but not when it replays a CUDA graph of the whole pass,
and not for layers of other kinds. So a load may only arrive layer by layer, under the pass, when an
earlier pass has been seen to ask for every layer and this one runs the same way. The worker's main
thread only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class LayerHooks:
    def __init__(self, layers: Iterable[str] = ()) -> None:
        """`layers`: the names of those that have KV."""
        self._layers = frozenset(layers)
        self._asked: set[str] | None = None  # in the pass that is being watched
        self._seen: set[str] = set()  # modes in which every layer was asked for
        self._mode = ""

    def begin(self, forward_context: Any) -> bool:
        """Before a pass that is to be watched: whether every layer will be asked for."""
        mode = getattr(forward_context, "cudagraph_runtime_mode", None)
        self._mode = getattr(mode, "name", "")
        self._asked = set()
        # None: there is no pass, or it is not known yet which. A list: two halves, in threads.
        known = isinstance(getattr(forward_context, "attn_metadata", None), dict)
        return known and self._mode in self._seen and self._mode != "FULL"

    def asked(self, layer: str) -> None:
        if self._asked is not None:
            self._asked.add(layer)

    def end(self) -> bool:
        """After it: whether every layer was asked for."""
        asked, self._asked = self._asked, None
        if asked is None or not asked >= self._layers:
            return False
        self._seen.add(self._mode)
        return True
