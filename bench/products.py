"""Matrix products in bf16: what the GPU computes beside copies."""

from __future__ import annotations

from collections.abc import Callable

import torch


def enqueue(work: Callable[[], None], count: int) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    """Events before and after `count` times `work` on the current stream."""
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(count):
        work()
    end.record()
    return begin, end


def seconds_of(work: Callable[[], None], warm: int, count: int) -> float:
    """What `work` takes on the GPU, after it has been done `warm` times."""
    enqueue(work, warm)
    begin, end = enqueue(work, count)
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / count


class Gemm:
    """A square product."""

    def __init__(self, device: str, size: int = 8192) -> None:
        self.a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        self.b = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        self.flops = 2.0 * size**3

    def run(self) -> None:
        torch.mm(self.a, self.b)


class Squares:
    """Products of 4096^3: each fills the GPU, with no gap between them for anything else."""

    def __init__(self, device: str) -> None:
        self._gemm = Gemm(device, 4096)
        self._product_s = seconds_of(self._gemm.run, warm=50, count=500)

    def layer(self, seconds: float) -> Callable[[], None]:
        """What takes about as long."""
        count = max(1, round(seconds / self._product_s))

        def run() -> None:
            for _ in range(count):
                self._gemm.run()

        return run


class LlamaLayer:
    """The four products of a layer of Llama-3.1-8B; vLLM joins q, k and v, and gate and up."""

    SHAPES = ((4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096))
    MOST_TOKENS = 16384

    def __init__(self, device: str) -> None:
        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=device, dtype=torch.bfloat16)

        self._weights = [random(*shape) for shape in self.SHAPES]
        self._inputs = {width: random(self.MOST_TOKENS, width) for width in (4096, 14336)}
        whole_s = seconds_of(self._products(self.MOST_TOKENS), warm=20, count=20)
        self._token_s = whole_s / self.MOST_TOKENS

    def _products(self, tokens: int) -> Callable[[], None]:
        def run() -> None:
            for weight in self._weights:
                torch.mm(self._inputs[weight.shape[0]][:tokens], weight)

        return run

    def layer(self, seconds: float) -> Callable[[], None]:
        """What takes about as long, but for MOST_TOKENS."""
        return self._products(min(self.MOST_TOKENS, round(seconds / self._token_s / 128) * 128))
