"""Loads a folder that `vul2safe data export --format hub` wrote with Python's `datasets`, as a user would.

    pip install datasets
    python tools/check_datasets.py FOLDER

Checks every configuration that the data card names: the rows have the shapes that TRL reads, spans stand on character
boundaries inside their side, and Parquet holds the same pairs as the views. Prints what it saw; exits with 1 on the first
thing that is wrong.
"""

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets  # noqa: E402
from datasets import get_dataset_config_names, load_dataset  # noqa: E402


def messages(rows, roles):
    return [message["role"] for message in rows] == roles and all(message["content"] for message in rows)


def check_pair(pair):
    for span in pair["spans"]:
        text = pair[span["side"]].encode()
        assert 0 <= span["start"] < span["end"] <= len(text), pair["id"]
        text[span["start"] : span["end"]].decode()
    assert {span["kind"] for span in pair["spans"]} == {"vulnerable", "secure"}, pair["id"]
    assert len(pair["hash"]) == 64 and 0 <= pair["confidence"] <= 1, pair["id"]
    assert pair["repair"]["by"] and pair["source"]["dataset"], pair["id"]
    assert all(prompt["text"] and isinstance(prompt["checks"], list) for prompt in pair["prompts"]), pair["id"]


def check_sft(row):
    assert messages(row["prompt"], ["user"]) and messages(row["completion"], ["assistant"]), row["id"]


def check_chat(row):
    assert messages(row["messages"], ["user", "assistant"]), row["id"]


def check_rl(row):
    assert messages(row["prompt"], ["user"]) and row["vulnerable"] and row["secure"] and row["spans"], row["id"]


CHECKS = {"pairs": check_pair, "sft": check_sft, "chat": check_chat, "rl": check_rl}


def main(folder):
    print(f"datasets {datasets.__version__}")
    names = get_dataset_config_names(folder)
    assert set(names) == set(CHECKS), names
    ids = {}
    for name in names:
        data = load_dataset(folder, name)
        for split, rows in data.items():
            for row in rows:
                CHECKS[name](row)
            ids.setdefault(name, set()).update(rows["id"])
            print(f"{name:<6} {split:<11} {rows.num_rows:>6} rows  {', '.join(rows.column_names)}")
    prompted = {row["id"] for rows in load_dataset(folder, "pairs").values() for row in rows if row["prompts"]}
    for view in ("sft", "chat", "rl"):
        assert ids[view] == prompted, f"{view} holds other pairs than Parquet"
    print("every row has the shape it should have")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
