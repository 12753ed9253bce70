#!/usr/bin/env python3
"""Measures greedy decoding in turn: ours, transformers' generate, and a hand-written key-value-cache loop in torch.

    cargo bench -p vul2safe-model --bench decode -- --save /tmp/decode-model
    python tools/bench_torch_decode.py /tmp/decode-model --ours target/release/deps/decode-<hash>

All three load the same folder, read the same prompts (all different, none is a shared prefix), and generate the same number
of ids without a stop. The ids must agree: where a greedy choice was a near tie in f32, the first place of difference is
printed with the gap between the two best logits there. Medians over the rounds; every round runs each of them once.
Needs torch and transformers; nothing is downloaded.
"""

import argparse
import json
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM


def prompts(batch, length, vocabulary):
    """The prompts of the Rust benchmark: token `at` of prompt `index`."""
    return [[(index * 7919 + at * 31 + at * at * 7 + 3) % vocabulary for at in range(length)] for index in range(batch)]


class Loop:
    """A Qwen2 decoder by hand: fused weights, a preallocated cache, and grouped queries as the rows of one attention call."""

    def __init__(self, model):
        config = model.config
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.hidden_size // self.heads
        self.epsilon = config.rms_norm_eps
        theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
        self.frequency = 1.0 / theta ** (torch.arange(0, self.width, 2, dtype=torch.float32) / self.width)
        self.embedding = model.model.embed_tokens.weight.data
        self.head = model.lm_head.weight.data
        self.norm = model.model.norm.weight.data
        self.layers = []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            self.layers.append((
                layer.input_layernorm.weight.data,
                torch.cat([part.weight.data for part in projections]),
                torch.cat([part.bias.data for part in projections]),
                attention.o_proj.weight.data,
                layer.post_attention_layernorm.weight.data,
                torch.cat([mlp.gate_proj.weight.data, mlp.up_proj.weight.data]),
                mlp.down_proj.weight.data,
            ))

    @torch.inference_mode()
    def generate(self, ids, count):
        batch, length = ids.shape
        total = length + count
        keys = torch.empty(len(self.layers), batch, self.key_heads, total, self.width)
        values = torch.empty_like(keys)
        angles = torch.arange(total, dtype=torch.float32)[:, None] * self.frequency[None]
        cosine = torch.cat([angles.cos(), angles.cos()], -1)
        # The sine carries the sign of the half that is turned, so that turning is a roll, two products and a sum.
        sine = torch.cat([-angles.sin(), angles.sin()], -1)
        answer = torch.empty(batch, count, dtype=torch.long)
        logits = self.forward(ids, keys, values, cosine, sine, 0)
        for step in range(count):
            best = logits.argmax(-1)
            answer[:, step] = best
            if step + 1 < count:
                logits = self.forward(best[:, None], keys, values, cosine, sine, length + step)
        return answer

    def forward(self, ids, keys, values, cosine, sine, start):
        batch, length = ids.shape
        heads, key_heads, width = self.heads, self.key_heads, self.width
        end = start + length
        cosine, sine = cosine[start:end, None], sine[start:end, None]
        x = F.embedding(ids, self.embedding)
        for index, (norm, qkv, bias, out, post, gate_up, down) in enumerate(self.layers):
            row = F.linear(F.rms_norm(x, (x.shape[-1],), norm, self.epsilon), qkv, bias)
            row = row.view(batch, length, heads + 2 * key_heads, width)
            turned = row[:, :, : heads + key_heads]
            turned = turned * cosine + turned.roll(width // 2, -1) * sine
            key, value = keys[index], values[index]
            key[:, :, start:end] = turned[:, :, heads:].transpose(1, 2)
            value[:, :, start:end] = row[:, :, heads + key_heads :].transpose(1, 2)
            query = turned[:, :, :heads]
            if length == 1:
                # The queries that share a key head stand as rows of one call; nothing needs a mask.
                query = query.reshape(batch, key_heads, heads // key_heads, width)
                mixed = F.scaled_dot_product_attention(query, key[:, :, :end], value[:, :, :end])
                mixed = mixed.reshape(batch, 1, heads * width)
            else:
                group = heads // key_heads
                mixed = F.scaled_dot_product_attention(
                    query.transpose(1, 2),
                    key[:, :, :end].repeat_interleave(group, 1),
                    value[:, :, :end].repeat_interleave(group, 1),
                    is_causal=True,
                )
                mixed = mixed.transpose(1, 2).reshape(batch, length, heads * width)
            x = x + F.linear(mixed, out)
            gate, up = F.linear(F.rms_norm(x, (x.shape[-1],), post, self.epsilon), gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(F.rms_norm(x[:, -1], (x.shape[-1],), self.norm, self.epsilon), self.head)


@torch.inference_mode()
def gap(model, ids):
    """Difference between the two best logits after `ids`."""
    best = model(torch.tensor([ids])).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the model folder that the Rust benchmark saved")
    parser.add_argument("--ours", help="the Rust benchmark's program; without it only torch is measured")
    parser.add_argument("--precision", default="float32", help="precision of our weights: float32, bfloat16 or int8")
    parser.add_argument("--batches", default="1,16,64")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    loop = Loop(model)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {sum(p.numel() for p in model.parameters())} parameters")

    def transformers_generate(ids):
        with torch.inference_mode():
            whole = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False,
                max_new_tokens=arguments.new, min_new_tokens=arguments.new, use_cache=True,
            )
        return whole[:, ids.shape[1] :]

    for batch in [int(part) for part in arguments.batches.split(",")]:
        given = prompts(batch, arguments.prompt, model.config.vocab_size)
        ids = torch.tensor(given)
        rates = {"ours": [], "transformers": [], "loop": []}
        transformers_generate(ids[:, :8])
        loop.generate(ids[:, :8], 4)
        answers = {}
        for _ in range(arguments.rounds):
            if arguments.ours:
                result = subprocess.run(
                    [arguments.ours, "--bench", "--model", arguments.folder, "--batch", str(batch), "--prompt", str(arguments.prompt),
                     "--new", str(arguments.new), "--threads", str(arguments.threads), "--precision", arguments.precision, "--json"],
                    check=True, capture_output=True, text=True,
                )
                result = json.loads(result.stdout.strip().splitlines()[-1])
                rates["ours"].append(batch * arguments.new / result["seconds"])
                answers["ours"] = result["ids"]
            for name, function in [("transformers", transformers_generate), ("loop", lambda ids: loop.generate(ids, arguments.new))]:
                start = time.perf_counter()
                answer = function(ids)
                rates[name].append(batch * arguments.new / (time.perf_counter() - start))
                answers[name] = answer.tolist()
        medians = {name: statistics.median(values) for name, values in rates.items() if values}
        print(f"batch {batch}: " + ", ".join(f"{name} {value:.0f} tokens/s" for name, value in medians.items()))
        if arguments.ours:
            print(f"  ours / transformers {medians['ours'] / medians['transformers']:.2f}, ours / loop {medians['ours'] / medians['loop']:.2f}")
        for first, second in [("ours", "transformers"), ("loop", "transformers")]:
            if first not in answers:
                continue
            same = 0
            for index, (a, b) in enumerate(zip(answers[first], answers[second])):
                if a == b:
                    same += 1
                    continue
                at = next(at for at in range(len(b)) if a[at] != b[at])
                print(f"  {first} and {second} part at id {at} of prompt {index}: gap {gap(model, given[index] + b[:at]):.2e}")
            print(f"  {first} and {second}: {same} of {batch} answers have the same ids")


if __name__ == "__main__":
    main()
