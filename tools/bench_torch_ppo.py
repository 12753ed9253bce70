"""PyTorch beside this engine: one PPO update with an adapter, on the same weights, tokens, rewards and threads.

    cargo bench -p vul2safe-train --bench ppo -- --prepare DIR
    cargo bench -p vul2safe-train --bench ppo -- --model DIR
    python tools/bench_torch_ppo.py DIR

Both print one JSON object with seconds, peak memory and the losses, which agree. The arithmetic is the same: log-probs of the
sampling policy and of the reference (PEFT's adapter switched off), values, GAE with the KL penalty in the reward, the clipped
losses of policy and value, forward and backward through actor and value head with gradient checkpointing, one step of AdamW.
Log-probs are taken from the logits of the response's rows alone, one sequence a micro-batch.

Needs PyPI's torch, transformers and peft.
"""

import argparse
import json
import os
import re
import time


def memory(field):
    """A field of /proc/self/status in MiB: VmRSS (now) or VmHWM (the peak so far)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return int(re.search(rf"{field}:\s+(\d+)", status.read())[1]) / 1024


GAMMA, LAMBDA, KL, CLIP, VALUE_CLIP, VALUE_COEFFICIENT, CLIP_NORM = 1.0, 0.95, 0.02, 0.2, 0.5, 0.5, 1.0


def advantages_and_returns(torch, rewards, values):
    """GAE of one answer; what follows its last token is worth nothing."""
    advantages, following, carried = [0.0] * len(rewards), 0.0, 0.0
    rewards, values = rewards.tolist(), values.tolist()
    for at in reversed(range(len(rewards))):
        carried = rewards[at] + GAMMA * following - values[at] + GAMMA * LAMBDA * carried
        advantages[at], following = carried, values[at]
    advantages = torch.tensor(advantages)
    return advantages, advantages + torch.tensor(values)


def update(options):
    """One update; gives what is printed."""
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    import peft
    import torch
    import transformers

    torch.set_num_threads(options.threads)
    after_import = memory("VmRSS")
    begun = time.perf_counter()
    dtype = torch.bfloat16 if options.bfloat16 else torch.float32
    base = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=dtype, attn_implementation="sdpa", use_cache=False
    )
    model = peft.PeftModel.from_pretrained(base, os.path.join(options.model, "adapter"), is_trainable=True)
    model.train()
    if not options.keep:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    decoder, head = base.model, base.lm_head
    value_head = torch.nn.Linear(base.config.hidden_size, 1)
    torch.nn.init.zeros_(value_head.weight)
    torch.nn.init.zeros_(value_head.bias)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    value_optimizer = torch.optim.AdamW(value_head.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    loaded, seconds = memory("VmRSS"), {"load": time.perf_counter() - begun}

    with open(os.path.join(options.model, "rollouts.json"), encoding="ascii") as file:
        rollouts = json.load(file)
    ids = torch.tensor(rollouts["ids"][: options.sequences])
    prompt, rewards = rollouts["prompt"], torch.tensor(rollouts["rewards"][: options.sequences])
    tokens = rewards.numel()

    def forward(sequence, entropy=False, values=True):
        """Log-probs, entropies and values of a sequence's response."""
        hidden = decoder(input_ids=sequence[None]).last_hidden_state[0, prompt - 1 : -1]
        logits = head(hidden).float()
        total = torch.logsumexp(logits, -1)
        log_prob = logits.gather(-1, sequence[prompt:, None])[:, 0] - total
        spread = total - (torch.softmax(logits, -1) * logits).sum(-1) if entropy else None
        return log_prob, spread, value_head(hidden.float())[:, 0] if values else None

    started, processor = time.perf_counter(), time.process_time()
    begun = started
    with torch.no_grad():
        found = [forward(sequence, entropy=True) for sequence in ids]
    old_log_prob, entropy, old_values = (torch.stack(part) for part in zip(*found))
    seconds["old_log_probs_and_values"] = time.perf_counter() - begun

    begun = time.perf_counter()
    with torch.no_grad(), model.disable_adapter():
        reference = torch.stack([forward(sequence, values=False)[0] for sequence in ids])
    seconds["reference_log_probs"] = time.perf_counter() - begun

    begun = time.perf_counter()
    difference = old_log_prob - reference
    pairs = [advantages_and_returns(torch, *pair) for pair in zip(rewards - KL * difference, old_values)]
    advantages, returns = (torch.stack(part) for part in zip(*pairs))
    advantages = (advantages - advantages.mean()) / (advantages.var() + 1e-8).sqrt()
    policy_loss = value_loss = ratio_error = 0.0
    for at, sequence in enumerate(ids):
        log_prob, _, values = forward(sequence)
        ratio = (log_prob - old_log_prob[at]).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        policy = torch.maximum(-advantages[at] * ratio, -advantages[at] * clipped).sum() / tokens
        near = old_values[at] + (values - old_values[at]).clamp(-VALUE_CLIP, VALUE_CLIP)
        value = torch.maximum((values - returns[at]) ** 2, (near - returns[at]) ** 2).sum() / tokens / 2
        (policy + VALUE_COEFFICIENT * value).backward()
        policy_loss, value_loss = policy_loss + policy.item(), value_loss + value.item()
        ratio_error = max(ratio_error, (ratio - 1).abs().max().item())
    norm = torch.nn.utils.clip_grad_norm_(trainable, CLIP_NORM).item()
    value_norm = torch.nn.utils.clip_grad_norm_(value_head.parameters(), CLIP_NORM).item()
    optimizer.step()
    value_optimizer.step()
    seconds["train"] = time.perf_counter() - begun
    seconds["update"] = time.perf_counter() - started
    seconds["processor"] = time.process_time() - processor
    return {
        "program": f"torch {torch.__version__} transformers {transformers.__version__} peft {peft.__version__}",
        "threads": options.threads,
        "checkpointing": not options.keep,
        "base": str(dtype),
        "tokens": ids.numel(),
        "trainable": sum(parameter.numel() for parameter in trainable),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "after_import_mib": round(after_import, 1),
        "loaded_mib": round(loaded, 1),
        "peak_mib": round(memory("VmHWM"), 1),
        "metrics": {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "kl_reference": difference.mean().item(),
            "entropy": entropy.mean().item(),
            "gradient_norm": norm,
            "value_gradient_norm": value_norm,
            "first_ratio_error": ratio_error,
        },
    }


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the folder made by the bench's --prepare")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=8, help="of the 8, the first so many")
    parser.add_argument("--keep", action="store_true", help="no gradient checkpointing")
    parser.add_argument("--bfloat16", action="store_true", help="keep the base in two bytes a number")
    print(json.dumps(update(parser.parse_args())))


if __name__ == "__main__":
    main()
