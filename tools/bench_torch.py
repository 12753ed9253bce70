"""PyTorch beside this engine: training on the same weights, tokens and threads.

    cargo bench -p vul2safe-train --bench train -- --prepare DIR [--vocabulary 8192]
    python tools/bench_torch.py compare DIR --engine target/release/deps/train-HASH --rounds 5

`compare` starts this engine, eager torch and compiled torch at once, lets them take turns, round by round, and prints a
table. `train` runs torch alone and prints one JSON object; the bench prints the same.

Needs PyPI's torch and transformers (and a C++ compiler for torch.compile).
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time


def memory(field):
    """A field of /proc/self/status in MiB: VmRSS (now) or VmHWM (the peak so far)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return int(re.search(rf"{field}:\s+(\d+)", status.read())[1]) / 1024


def train(options):
    """Forward, backward, clip and AdamW on one batch, again and again."""
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    import torch
    import transformers

    torch.set_num_threads(options.threads)
    after_import = memory("VmRSS")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation="sdpa", use_cache=False
    )
    model.train()
    with open(os.path.join(options.model, "tokens.json"), encoding="ascii") as file:
        ids = torch.tensor(json.load(file))
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, **{options.optimizer: True}
    )
    run = torch.compile(model) if options.compile else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    losses = [step() for _ in range(options.warm_up)]
    speeds, processor = [], time.process_time()
    for _ in range(options.rounds):
        if options.in_turn:
            print("ready", flush=True)
            sys.stdin.readline()
        begun = time.perf_counter()
        losses += [step() for _ in range(options.steps)]
        speeds.append(options.steps * ids.numel() / (time.perf_counter() - begun))
        if options.in_turn:
            print(json.dumps(speeds[-1]), flush=True)
    processor = time.process_time() - processor
    return {
        "program": f"torch {torch.__version__} {'compiled' if options.compile else 'eager'}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "threads": options.threads,
        "tokens_per_second": [round(speed, 1) for speed in speeds],
        "median": round(statistics.median(speeds), 1),
        "tokens_per_core_second": round(options.rounds * options.steps * ids.numel() / processor, 1),
        "peak_mib": round(memory("VmHWM"), 1),
        "after_import_mib": round(after_import, 1),
        "losses": [round(loss, 5) for loss in losses],
    }


def compare(options):
    """Runs the programs in turn and prints medians, ratios of the same round, and peaks."""
    common = ["--threads", str(options.threads), "--rounds", str(options.rounds), "--steps", str(options.steps)]
    torch = [sys.executable, __file__, "train", options.model, "--optimizer", options.optimizer, *common]
    engine = [options.engine, "--model", options.model, "--micro-tokens", str(options.micro_tokens), *common]
    commands = {"engine": engine, "eager": torch}
    if not options.no_compile:
        commands["compiled"] = [*torch, "--compile"]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = {name: subprocess.Popen([*command, "--in-turn"], **pipe) for name, command in commands.items()}

    def line(name):
        text = running[name].stdout.readline()
        if not text:
            raise SystemExit(f"{name} ended early: {' '.join(commands[name])}")
        return text

    try:
        for name in commands:
            line(name)
        rounds = []
        for index in range(options.rounds):
            speeds = {}
            for name, program in running.items():
                program.stdin.write("go\n")
                program.stdin.flush()
                speeds[name] = json.loads(line(name))
                if index + 1 < options.rounds:
                    line(name)
            rounds.append(speeds)
        results = {name: json.loads(line(name)) for name in commands}
    finally:
        for program in running.values():
            program.kill()
    print(f"{results['engine']['parameters'] / 1e6:.1f} M parameters, {options.threads} threads, {options.rounds} rounds in turn")
    print("| program | tokens/s (median) | engine ÷ it (median of rounds) | tokens per core-second | peak MiB | less import |")
    print("|---|---|---|---|---|---|")
    for name, result in results.items():
        ratio = statistics.median(speeds["engine"] / speeds[name] for speeds in rounds)
        less = result["peak_mib"] - result["after_import_mib"]
        print(
            f"| {result['program']} | {result['median']:.0f} | {ratio:.2f} | {result['tokens_per_core_second']:.0f} "
            f"| {result['peak_mib']:.0f} | {less:.0f} |"
        )
    best = statistics.median(
        speeds["engine"] / max(speed for name, speed in speeds.items() if name != "engine") for speeds in rounds
    )
    print(f"engine against the better of torch's two, median of rounds: {best:.3f}")
    for name, result in results.items():
        print(f"{name} losses: {result['losses']}")
    with open(os.path.join(options.model, "compare.json"), "w", encoding="ascii") as file:
        json.dump({"rounds": rounds, "results": results}, file, indent=1)


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, action in {"train": train, "compare": compare}.items():
        command = commands.add_parser(name, help=action.__doc__)
        command.set_defaults(action=action)
        command.add_argument("model", help="folder with config.json, model.safetensors and tokens.json")
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--rounds", type=int, default=5)
        command.add_argument("--steps", type=int, default=3, help="training steps in a round")
        command.add_argument("--optimizer", choices=["fused", "foreach"], default="fused")
        if action is train:
            command.add_argument("--warm-up", type=int, default=2, help="steps before the first round")
            command.add_argument("--compile", action="store_true", help="torch.compile the model")
            command.add_argument("--in-turn", action="store_true", help="wait for a line on stdin before each round")
        else:
            command.add_argument("--engine", required=True, help="the built bench program")
            command.add_argument("--micro-tokens", type=int, default=1024, help="tokens in a pass of the engine")
            command.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    result = options.action(options)
    if result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
