"""The times of `gpu_speed` (crates/model/src/cuda/tests/speed.rs) with torch: Qwen2.5-Coder-0.5B's sizes, random weights.

    python tools/bench_gpu.py                  # on the first GPU
    python tools/bench_gpu.py --device cpu --tiny   # that the script runs, nothing else

Training: bf16 autocast over f32 weights (f32 moments as well), eager and compiled, 8 x 1024 tokens, whole step with clipping and fused
AdamW. Decoding: transformers' generate. Medians after warm-up, the device waited for around each. Needs torch, transformers; peft for LoRA.
"""

import argparse
import statistics
import time

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def wait(device):
    if device != "cpu":
        torch.cuda.synchronize()


def median(device, rounds, work):
    times = []
    for _ in range(rounds + 2):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[2:])


def model_of(arguments):
    config = Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, rope_theta=1e6,
    )
    if arguments.tiny:
        config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers = 512, 112, 128, 2
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config).to(arguments.device)


def training(arguments, name, model, compiled):
    rows, length = (2, 32) if arguments.tiny else (8, 1024)
    ids = torch.randint(0, model.config.vocab_size, (rows, length), device=arguments.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(arguments.device, dtype=torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    if arguments.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    took = median(arguments.device, arguments.rounds, step)
    peak = 0 if arguments.device == "cpu" else torch.cuda.max_memory_allocated() / 2**30
    print(f"training, {name}: {took:.1f} ms, {rows * length / took * 1e3:.0f} tokens/s, peak {peak:.1f} GiB", flush=True)


def decoding(arguments, model):
    new, prompt = (8, 16) if arguments.tiny else (101, 256)
    model = model.to(torch.bfloat16).eval()
    for count in (1, 16, 64):
        ids = torch.randint(3, model.config.vocab_size, (1, prompt), device=arguments.device).repeat(count, 1)

        def generate():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, min_new_tokens=new,
                           max_new_tokens=new, pad_token_id=0, use_cache=True)

        took = median(arguments.device, 1 if arguments.tiny else 3, generate) / new
        print(f"decoding, {count} texts: {took:.2f} ms a step, {count / took * 1e3:.0f} tokens/s", flush=True)


def main():
    arguments = parse()
    where = "cpu" if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(f"torch {torch.__version__} on {where}", flush=True)
    for compiled in (False, True):
        if compiled and arguments.no_compile:
            continue
        how = "compiled" if compiled else "eager"
        model = model_of(arguments)
        training(arguments, f"everything, {how}", model, compiled)
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            print("LoRA: no peft")
        else:
            targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets)
            # The frozen weights in bf16, as the engine holds them.
            frozen = get_peft_model(model_of(arguments).to(torch.bfloat16), adapter)
            for parameter in frozen.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
            training(arguments, f"LoRA 16, {how}", frozen, compiled)
    decoding(arguments, model_of(arguments))


if __name__ == "__main__":
    main()
