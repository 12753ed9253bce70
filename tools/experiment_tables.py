"""The tables of docs/src/concepts/experiment.md, from the folder of an experiment.

    python3 tools/experiment_tables.py runs/experiment [--first tlr] [--others sum,grpo] [--families join_values,count_rows]

Everything comes from experiment.json but the rates of single harmless families and what answers fail by, which are counted in each
seed's evaluation/*.jsonl: broken is what Python's own parser refuses. Ratios are geometric means of the pairs with Student's interval of their logarithms. Needs Python 3 alone.
"""

import argparse
import ast
import collections
import json
import math
import pathlib
import warnings

# 97.5 % quantiles of Student's distribution, by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 15: 2.131}

MAIN = [
    ("training", "rollouts_to_half", "answers until vulnerable is halved"),
    ("training", "vulnerable_area", "vulnerable, mean of the training"),
    ("all", "vulnerable", "vulnerable"),
    ("all", "vulnerable_high", "of high severity"),
    ("all", "absent", "absent"),
    ("all", "functional", "functional"),
    ("all", "both", "both (secure-pass@1)"),
    ("harmless", "functional", "harmless, functional"),
    ("training", "kl", "KL, nats an answer"),
]
DIFFERENCES = [
    ("training", "rollouts_to_half", "answers until halved"),
    ("training", "vulnerable_area", "vulnerable, mean of the training"),
    ("training", "functional_area", "functional, mean of the training"),
    ("training", "both_area", "both, mean of the training"),
    ("all", "both", "both at the end"),
    ("all", "functional", "functional at the end"),
    ("harmless", "functional", "harmless"),
]
GROUPS = [
    "names", "contexts", "families", "one place", "several places", "short answers", "long answers", "common flaws", "rare flaws",
]


def scaled(measure, value):
    return value if measure in ("rollouts_to_half", "kl") else 100 * value


def digits(measure):
    return 0 if measure == "rollouts_to_half" else 1


def mean_and_interval(values):
    """Mean with Student's 95 % interval; none for one value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = STUDENT[len(values) - 1] * deviation / math.sqrt(len(values))
    return mean, (mean - half, mean + half)


def row(cells):
    print("| " + " | ".join(cells) + " |")


def head(cells):
    row(cells)
    print("|" + "---|" * len(cells))


class Experiment:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        path = self.folder / "experiment.json"
        try:
            self.table = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise SystemExit(f"{path}: {error}\nhint: give the folder of a finished experiment, such as runs/experiment")
        self.arms = {arm["arm"]: arm for arm in self.table["arms"]}
        self.differences = {
            (one["first"], one["second"], one["group"], one["measure"]): one for one in self.table["differences"]
        }

    def figure(self, arm, group, measure):
        return self.arms[arm]["groups"].get(group, {}).get(measure)

    def cell(self, arm, group, measure, places=None):
        figure = self.figure(arm, group, measure)
        if figure is None:
            return "–"
        places = (1 if measure in ("kl", "vulnerable_area") else 0) if places is None else places
        mean, low, high = (figure[key] for key in ("mean", "low", "high"))
        text = f"{scaled(measure, mean):.{places}f}"
        if low is None:
            return text
        return f"{text} [{scaled(measure, low):.{places}f}, {scaled(measure, high):.{places}f}]"

    def difference(self, first, second, group, measure, p_value=True):
        one = self.differences.get((first, second, group, measure))
        if one is None:
            return "–"
        places = digits(measure)
        numbers = [f"{scaled(measure, one[key]):+.{places}f}" for key in ("difference", "low", "high")]
        text = f"{numbers[0]} [{numbers[1]}, {numbers[2]}]".replace("-", "−")
        return text + (f", p {one['p_value']:.3f}" if p_value else "")

    def values(self, arm, group, measure, seeds):
        """Figures of the first seeds; none where one of them is missing."""
        figure = self.figure(arm, group, measure)
        return None if figure is None or len(figure["values"]) < seeds else figure["values"][:seeds]


def fails_by(answer):
    """What an answer fails by; none where it works."""
    functional = answer["verdict"]["functional"]
    if "passed" in functional:
        return None
    if not answer["finished"]:
        return "cut off"
    try:
        ast.parse(answer["answer"])
    except (SyntaxError, ValueError):
        return "broken"
    message = functional["failed"]["message"] if "failed" in functional else ""
    for words, name in [
        ("does not load: AttributeError", "name of the function"),
        ("FileNotFoundError", "table, column or folder"),
        ("no such table", "table, column or folder"),
        ("no such column", "table, column or folder"),
        ("NameError", "undefined name"),
        ("not defined", "undefined name"),
    ]:
        if words in message:
            return name
    return "other"


def failures(experiment, arm, harmless):
    """What answers to tasks that invite a weakness fail by, the vulnerable and the broken ones by family, and how many answers there are."""
    reasons, vulnerable, broken, count = collections.Counter(), collections.Counter(), collections.Counter(), 0
    for path in sorted(experiment.folder.glob(f"seed-*/evaluation/{arm}.jsonl")):
        for line in path.read_text().splitlines():
            answer = json.loads(line)
            family = answer["task"].split("/")[0]
            if family in harmless:
                continue
            count += 1
            reason = fails_by(answer)
            reasons[reason] += 1
            broken[family] += reason == "broken"
            vulnerable[family] += "failed" in answer["verdict"]["exploit"]
    return reasons, vulnerable, broken, count


def harmless_families(experiment, arm, families):
    """By family: share of working answers in each seed."""
    shares = {family: [] for family in families}
    for path in sorted(experiment.folder.glob(f"seed-*/evaluation/{arm}.jsonl")):
        counts = {family: [0, 0] for family in families}
        for line in path.read_text().splitlines():
            answer = json.loads(line)
            family = answer["task"].split("/")[0]
            if family in counts:
                counts[family][0] += "passed" in answer["verdict"]["functional"]
                counts[family][1] += 1
        for family, (passed, all_of_them) in counts.items():
            if all_of_them:
                shares[family].append(passed / all_of_them)
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--first", default="tlr", help="the arm that the others are compared with")
    parser.add_argument("--others", default="", help="arms it is compared with, separated by commas; all with as many seeds")
    parser.add_argument("--families", default="", help="harmless families, separated by commas")
    options = parser.parse_args()
    experiment, first = Experiment(options.folder), options.first
    most = max(len(arm["seeds"]) for arm in experiment.arms.values())
    whole = [name for name, arm in experiment.arms.items() if len(arm["seeds"]) == most]
    arms = [name for name in whole if name not in ("base", "sft", first)]
    if options.others:
        arms = options.others.split(",")
    for name in [first, *arms]:
        if name not in experiment.arms:
            raise SystemExit(f"there is no arm `{name}`; there are {', '.join(experiment.arms)}")
    print(f"{experiment.table['seconds'] / 60:.0f} minutes, {most} seeds\n")

    print("search\n")
    head(["arm", "setting", "both, mean of the training", "vulnerable", "functional, change", "taken"])
    for one in experiment.table["search"]:
        rates = [f"{100 * one[key]:.1f}" for key in ("both", "vulnerable", "functional_change")]
        row([one["arm"], f"`{one['setting'].replace('; ; ', '; ')}`", *rates, "yes" if one["chosen"] else ""])

    print("\nevery arm with all seeds\n")
    head(["model", *(heading for _, _, heading in MAIN)])
    for name in whole:
        row([f"`{name}`", *(experiment.cell(name, group, measure) for group, measure, _ in MAIN)])

    print(f"\n{first} less the others\n")
    head(["less", *(heading for _, _, heading in DIFFERENCES)])
    for other in [*arms, "sft"]:
        row([f"`{other}`", *(experiment.difference(first, other, group, measure) for group, measure, _ in DIFFERENCES)])

    print("\nas many times the answers until halved\n")
    for other in arms:
        pairs = [experiment.values(name, "training", "rollouts_to_half", most) for name in (other, first)]
        if None in pairs or any(value <= 0 for values in pairs for value in values):
            continue
        mean, interval = mean_and_interval([math.log(one / two) for one, two in zip(*pairs)])
        ends = ", ".join(f"{math.exp(end):.2f}" for end in interval or ())
        print(f"* {other}: {math.exp(mean):.2f} [{ends}]")

    print("\nat the same KL\n")
    measures = ["vulnerable", "functional", "both"]
    head([f"`{first}` less", *measures])
    for other in arms:
        row([f"`{other}`", *(experiment.difference(first, other, "at the same KL", measure) for measure in measures)])

    print("\ngroups of tasks, at the end and while training\n")
    columns = [("both", other) for other in arms] + [("rollouts_to_half", other) for other in arms]
    columns += [("vulnerable_area", other) for other in arms]
    head(["tasks", "vulnerable", "both", *(f"{measure}, less `{other}`" for measure, other in columns)])
    known = {group for arm in experiment.arms.values() for group in arm["groups"]}
    for group in [*GROUPS, *sorted(known - set(GROUPS) - {"all", "harmless", "training"})]:
        if experiment.figure(first, group, "both") is None:
            continue
        spans = [
            " → ".join(f"{100 * experiment.figure(arm, group, measure)['mean']:.0f}" for arm in ("sft", first))
            for measure in ("vulnerable", "both")
        ]
        differences = [experiment.difference(first, other, group, measure, False) for measure, other in columns]
        row([group, *spans, *differences])

    fewest = min(len(arm["seeds"]) for arm in experiment.arms.values())
    if fewest < most:
        print(f"\nmeans of the first {fewest} seeds\n")
        head(["arm", *(heading for _, _, heading in MAIN), f"`{first}` less it, mean vulnerable", "and both at the end"])
        for name in experiment.arms:
            cells = []
            for group, measure, _ in MAIN:
                values = experiment.values(name, group, measure, fewest)
                places = 1 if measure in ("kl", "vulnerable_area") else 0
                cells.append("–" if values is None else f"{scaled(measure, sum(values) / fewest):.{places}f}")
            pairs = [(group, measure) for group, measure in (("training", "vulnerable_area"), ("all", "both"))]
            row([f"`{name}`", *cells, *(experiment.difference(first, name, *pair, False) for pair in pairs)])

    families = [family for family in options.families.split(",") if family]
    if families:
        print("\nharmless families, functional\n")
        head(["model", *families])
        for name in whole:
            shares = harmless_families(experiment, name, families)
            row([f"`{name}`", *(f"{100 * sum(values) / len(values):.0f}" for values in shares.values())])

        print("\nwhat the other answers fail by, percent of all; the vulnerable and the broken ones by family\n")
        warnings.simplefilter("ignore")
        for name in whole:
            reasons, vulnerable, broken, count = failures(experiment, name, families)
            shares = [f"{reason} {100 * number / count:.1f}" for reason, number in reasons.most_common() if reason]
            print(f"* {name}, {count} answers: {', '.join(shares)}; {dict(vulnerable.most_common())}; {dict(broken.most_common())}")


if __name__ == "__main__":
    main()
