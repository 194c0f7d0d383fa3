"""Write benchmarks/lm_head.md from results/lm_head.json: every figure on that page is measured, none is typed.

Run after lm_head.py: python benchmarks/lm_head_page.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
OURS = "ptdpo fused"

TEXT = """# The fused head: what was measured

`python benchmarks/lm_head.py`, then `python benchmarks/lm_head_page.py`; how it works:
[docs/lm_head.md](../docs/lm_head.md).

## Time and memory

One thread, float32, H = {hidden}, K = {k}, all tokens compared. Time is a multiple of the bare matrix products (student
logits, their two backward products, teacher logits); memory is the peak beyond inputs and gradients. Fresh processes,
{runs} per cell, methods interleaved, other work on the second core; median and range. What is missing did not fit in
24 GB. The bare products keep one block of logits, which is their memory. TRL's chunked functions and Liger compute the
full divergence, TRL's SDPO that of the student's Top-K; Liger has no log-probability but a cross-entropy.

{tables}
![Time and memory against the number of tokens](../docs/lm_head.svg)

## What a support keeps of the full divergence

Mean ratio of the Top-K to the full-vocabulary Jensen-Shannon divergence; V = 32,000, 64 rows; peaked logits have a
standard deviation of 6, flat ones of 1, the teacher differs by 0.3 of that. With a tail bucket the ratio cannot exceed
1 (62); renormalising has no such bound.

{supports}
"""


def head_table(runs: list[dict], vocabulary: int) -> str:
    here = [run for run in runs if run["vocabulary"] == vocabulary]
    sizes = sorted({run["tokens"] for run in here})
    lines = [f"V = {vocabulary:,}", ""]
    lines.append("| method | " + " | ".join(f"N = {n}: time | MiB" for n in sizes) + " |")
    lines.append("|---|" + "---|---|" * len(sizes))
    for method in dict.fromkeys(run["method"] for run in here):
        cells = []
        for n in sizes:
            found = [run for run in here if run["method"] == method and run["tokens"] == n]
            if not found:
                cells += ["-", "-"]
                continue
            (run,) = found
            low, high = run["ratio_range"]
            cells += [f"{run['ratio']:.2f} [{low:.2f}, {high:.2f}]", f"{run['mib']:,.0f}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def support_table(rows: list[dict]) -> str:
    kinds = list(dict.fromkeys((row["shape"], row["support"]) for row in rows))
    lines = ["| K | " + " | ".join(f"{shape}: {support}" for shape, support in kinds) + " |"]
    lines.append("|---|" + "---|" * len(kinds))
    for k in sorted({row["k"] for row in rows}):
        cells = [
            f"{row['ratio']:.3f}"
            for kind in kinds
            for row in rows
            if (row["shape"], row["support"], row["k"]) == (*kind, k)
        ]
        lines.append(f"| {k} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(runs: list[dict], path: Path) -> None:
    largest = max(run["vocabulary"] for run in runs)
    here = [run for run in runs if run["vocabulary"] == largest and run["method"] != "bare products"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for method in dict.fromkeys(run["method"] for run in here):
        points = sorted((run["tokens"], run["ratio"], run["mib"]) for run in here if run["method"] == method)
        tokens, ratios, memory = zip(*points, strict=True)
        width = 2.5 if method == OURS else 1.2
        left.plot(tokens, ratios, marker="o", linewidth=width, label=method)
        right.plot(tokens, memory, marker="o", linewidth=width, label=method)
    left.set(xlabel="tokens", ylabel="time / bare products", xscale="log", yscale="log", title=f"V = {largest:,}")
    right.set(xlabel="tokens", ylabel="peak MiB beyond gradients", xscale="log", yscale="log")
    right.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    content = json.loads((RESULTS / "lm_head.json").read_text())
    runs = content["runs"]
    tables = "\n".join(head_table(runs, v) for v in sorted({run["vocabulary"] for run in runs}))
    counts = sorted({run["runs"] for run in runs})
    per_cell = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    text = TEXT.format(
        **{**content, "runs": per_cell, "tables": tables, "supports": support_table(content["supports"])}
    )
    (ROOT / "benchmarks" / "lm_head.md").write_text(text)
    plt.rcParams["svg.hashsalt"] = "ptdpo"
    draw(runs, DOCS / "lm_head.svg")


if __name__ == "__main__":
    main()
