"""Loads models and adapters that this engine saved with transformers and PEFT and compares their logits with ours.

    cargo run --release -p vul2safe-model --example write_parity -- FOLDER
    pip install torch transformers peft safetensors
    python tools/check_transformers.py FOLDER
"""

import argparse
import pathlib
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file


def worst(model, folder):
    """Largest distance between the model's logits and those in the folder, in float32."""
    expected = load_file(folder / "logits.safetensors")
    with torch.no_grad():
        logits = model(expected["ids"]).logits[0]
    return (logits - expected["logits"]).abs().max().item(), expected["logits"].abs().max().item()


def load(folder):
    """The folder as transformers reads it, with eager attention in float32."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def main():
    """Compares every model under the folder; exit code 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=2e-4, help="largest distance of a logit (default 2e-4)")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    print("| model | saved as | largest distance of a logit | largest logit |")
    print("|---|---|---|---|")
    failed = False
    for folder in sorted(path for path in options.folder.iterdir() if (path / "config.json").exists()):
        cases = {
            "float32": lambda: load(folder),
            "bfloat16": lambda: load(folder / "bfloat16"),
            "adapter": lambda: peft.PeftModel.from_pretrained(load(folder), folder / "adapter").eval(),
            "merged": lambda: load(folder / "merged"),
        }
        for name, model in cases.items():
            distance, largest = worst(model(), folder if name == "float32" else folder / name)
            failed |= not distance <= options.tolerance
            print(f"| {folder.name} | {name} | {distance:.1e} | {largest:.1f} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
