"""Writes the KV of a model run to a file, as a copy holds it: chunk after chunk, in a chunk layer
after layer, K then V, token after token. For compress_bench.

    python bench/dump_kv.py --model DIR --text FILE... --out kv.bin     a checkpoint (bf16 KV)
    python bench/dump_kv.py --train 120 --text FILE... --out kv.bin     a small Llama, trained here
    python bench/dump_kv.py --train 0 --text FILE... --out kv.bin       the same with random weights

--fp8 writes it as an engine with an fp8 cache has it: e4m3 with a scale of 1, cut off at 448.

The small model has 8 layers, 4 heads of 64, 2 with K and V, and a vocabulary of 8192 that is made
of the same text. It is there for machines that no checkpoint reaches; a figure that was measured
with it should say so.
"""

import argparse
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

CHUNK = 256
VOCABULARY = 8192


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
        )
    )


def train(model: LlamaForCausalLM, tokens: torch.Tensor, seconds: float) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    begin, step, loss = time.monotonic(), 0, None
    while time.monotonic() - begin < seconds:
        starts = torch.randint(0, len(tokens) - CHUNK, (4,))
        batch = torch.stack([tokens[start : start + CHUNK] for start in starts])
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    if loss is not None:
        print(f"trained {step} steps, loss {loss.item():.2f} nats a token (untrained: 9.0)")


@torch.inference_mode()
def dump(model: torch.nn.Module, tokens: torch.Tensor, count: int, out: Path, fp8: bool) -> int:
    """`count` tokens at a time, the context that a long prompt has."""
    written = 0
    body = model.to(torch.bfloat16).base_model  # without the head: it would make logits of all
    cache = body(tokens[None, :count], use_cache=True).past_key_values
    layers = [(layer.keys[0], layer.values[0]) for layer in cache.layers]  # heads, tokens, size
    with out.open("wb") as file:
        for start in range(0, count - CHUNK + 1, CHUNK):
            for pair in layers:
                for plane in pair:
                    part = plane[:, start : start + CHUNK].transpose(0, 1).contiguous()
                    if fp8:
                        part = part.clamp(-448, 448).to(torch.float8_e4m3fn)
                    written += file.write(part.view(torch.uint8).numpy().tobytes())
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--train", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--fp8", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    text = b"\n".join(path.read_bytes() for path in options.text)
    if options.model:
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        tokens = torch.tensor(tokenizer(text.decode()).input_ids)
        model = AutoModelForCausalLM.from_pretrained(options.model)
    else:
        tokenizer = ByteLevelBPETokenizer()
        tokenizer.train_from_iterator(text.decode().splitlines(True), VOCABULARY)
        tokens = torch.tensor(tokenizer.encode(text.decode()).ids)
        model = small_model()
        train(model, tokens[options.tokens :], options.train)
    count = min(options.tokens, len(tokens))
    written = dump(model.eval(), tokens, count, options.out, options.fp8)
    kind = "fp8" if options.fp8 else "bf16"
    print(f"{written / 1e6:.1f} MB of {kind} KV of {count} tokens in {options.out}")


if __name__ == "__main__":
    main()
