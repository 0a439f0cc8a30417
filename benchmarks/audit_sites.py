"""How often the audit takes a column of few values for a site: columns of chance, and sites that pictures show.

    python benchmarks/audit_sites.py [--tables 200]

Every table has 6 columns of 3 to 7 random values; then one column of true sites, whose pictures
have a tint of their own: a deviation of `tint` grey levels between sites, on pictures whose own
brightness deviates by 30.
"""

import argparse

import numpy as np
import pandas as pd

from ensembler.audit.columns import group_like_columns, group_like_names

ROWS = (60, 100, 200, 500, 1000)


def pictures(rng, labels, sites, tint):
    own = rng.normal(0, 30, (len(labels), 1, 1, 3)) + rng.normal(
        0, 20, (len(labels), 16, 16, 3)
    )
    of_label = rng.normal(0, 25, (labels.max() + 1, 16, 16, 3))[labels]
    of_site = rng.normal(0, tint, (sites.max() + 1, 1, 1, 3))[sites]
    return np.clip(128 + own + of_label + of_site, 0, 255).astype(np.uint8)


def table(rng, n):
    labels = rng.integers(0, rng.integers(2, 6), n)
    sites = rng.integers(0, rng.integers(3, 8), n)
    return labels, sites


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=200)
    tables = parser.parse_args().tables
    print(
        "rows  chance column reported  chance 'hospital' warned of  name alone (a note)  chance "
        "part of a file name"
    )
    for n in ROWS:
        chance = warned = noted = parts = 0
        for seed in range(tables):
            rng = np.random.default_rng([seed, n])
            labels, sites = table(rng, n)
            thumbs = pictures(rng, labels, sites, 0)
            columns = {
                f"c{i}": rng.integers(0, rng.integers(3, 8), n).astype(str)
                for i in range(6)
            }
            found = group_like_columns(
                pd.DataFrame({**columns, "hospital": sites.astype(str)}),
                labels,
                thumbs,
                None,
            )
            chance += sum(one.column != "hospital" for one in found)
            warned += sum(one.column == "hospital" and not one.only_named for one in found)
            noted += sum(one.column == "hospital" and one.only_named for one in found)
            paths = pd.Series([f"{value}_{i}.png" for i, value in enumerate(columns["c0"])])
            parts += len(group_like_names(paths, labels, thumbs, []))
        shares = [
            f"{x:.1%}"
            for x in (chance / tables / 6, warned / tables, noted / tables, parts / tables)
        ]
        print(f"{n:5d}  " + "  ".join(shares), flush=True)
    print("rows  tint  'hospital' warned of  a column of no name reported")
    for n in ROWS:
        for tint in (10, 30, 90):
            named = unnamed = 0
            for seed in range(tables // 2):
                rng = np.random.default_rng([seed, n, tint])
                labels, sites = table(rng, n)
                thumbs = pictures(rng, labels, sites, tint)
                for column in ("hospital", "c"):
                    found = group_like_columns(
                        pd.DataFrame({column: sites.astype(str)}), labels, thumbs, None
                    )
                    reported = any(not one.only_named for one in found)
                    named += reported and column == "hospital"
                    unnamed += reported and column == "c"
            print(
                f"{n:5d}  {tint:4d}  {named / (tables // 2):.0%}  {unnamed / (tables // 2):.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
