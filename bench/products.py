"""Matrix products in bf16: what the GPU computes beside copies."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Gemm:
    """A loop of bf16 products, timed on the GPU."""

    def __init__(self, device: str, size: int = 8192) -> None:
        self.a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        self.b = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        self.flops = 2.0 * size**3

    def enqueue(self, count: int) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(count):
            torch.mm(self.a, self.b)
        end.record()
        return begin, end

    def rate(self, count: int) -> float:
        begin, end = self.enqueue(count)
        end.synchronize()
        return count * self.flops / begin.elapsed_time(end) / 1e9  # TFLOP/s


class Squares:
    """Products of 4096^3: each fills the GPU, with no gap between them for anything else."""

    def __init__(self, device: str) -> None:
        self.gemm = Gemm(device, 4096)
        self.gemm.rate(50)
        self.product_s = self.gemm.flops / self.gemm.rate(500) / 1e12

    def layer(self, seconds: float) -> Callable[[], None]:
        """What takes about as long."""
        count = max(1, round(seconds / self.product_s))

        def run() -> None:
            for _ in range(count):
                torch.mm(self.gemm.a, self.gemm.b)

        return run


class LlamaLayer:
    """The four products of a layer of Llama-3.1-8B; vLLM joins q, k and v, and gate and up."""

    SHAPES = ((4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096))
    MOST_TOKENS = 16384

    def __init__(self, device: str) -> None:
        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=device, dtype=torch.bfloat16)

        self.weights = [random(*shape) for shape in self.SHAPES]
        self.inputs = {width: random(self.MOST_TOKENS, width) for width, _ in self.SHAPES}
        whole = self._products(self.MOST_TOKENS)
        for _ in range(20):
            whole()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            whole()
        torch.cuda.synchronize()
        self.token_s = (time.perf_counter() - start) / 20 / self.MOST_TOKENS

    def _products(self, tokens: int) -> Callable[[], None]:
        def run() -> None:
            for weight in self.weights:
                torch.mm(self.inputs[weight.shape[0]][:tokens], weight)

        return run

    def layer(self, seconds: float) -> Callable[[], None]:
        """What takes about as long."""
        return self._products(min(self.MOST_TOKENS, round(seconds / self.token_s / 128) * 128))
