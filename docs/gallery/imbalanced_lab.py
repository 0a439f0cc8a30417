# %% [markdown]
# # A lab's data: few images of the class that matters
#
# One class has a fifth of the images of the others, and missing it costs most. What helps: folds
# stratified by class, a score that counts every class alike, a sampler, and a blend whose decisions
# are tuned for that score on rows it was not fitted on. Needs the extra `train`.

# %%
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from ensembler import Run

IMAGES, EPOCHS = 600, 12


def ens(*arguments: str) -> dict:
    """What a command answers (in a notebook: `!ens ...`)."""
    command = [sys.executable, "-m", "ensembler", *arguments, "--json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


# %% [markdown]
# ## The data
# Drawn shapes, of which most rings are taken away.

# %%
ens("demo-data", "shapes", "shapes", "--n", str(IMAGES))
table = pd.read_csv("shapes/train.csv")
rings = table.index[table["label"] == "ring"]
table.drop(index=rings[len(rings) // 5 :]).to_csv("shapes/train.csv", index=False)

# %% [markdown]
# ## What the audit says of it

# %%
Path("recipe.yaml").write_text(
    f"""
name: lab
data: {{source: shapes/train.csv, targets: label}}
folds: {{count: 3, holdout: 0.2}}
input: {{size: 32}}
augment: light
views: [identity, hflip]
defaults: {{backbone: test_resnet, epochs: {EPOCHS}, lr: 3e-3, batch_size: 32}}
members:
  plain: {{}}
  balanced: {{sampler: balanced}}
blend: {{method: auto, metric: f1_macro, calibrate: biases}}
submission: {{columns: [id, label]}}
"""
)
for finding in ens("audit", "recipe.yaml")["findings"]:
    print(finding["severity"], finding["code"], "->", finding["fix"])

# %% [markdown]
# ## Two members that differ in how often they see the rare class, and their blend
# `calibrate: biases` moves the decisions of the blend towards the metric; the biases are found on
# rows that the blend was not fitted on.

# %%
ens("run", "recipe.yaml")
run = Run.open("lab")
for row in run.evaluate().rows:
    metrics = row.metrics
    print(
        f"{row.name:10} {row.split:8} {metrics['accuracy']:.3f} {metrics['f1_macro']:.3f}"
    )

# %% [markdown]
# ## Is the gain real?
# Paired by row, with an interval. With this few rows it is wide, and says so.

# %%
gains = ens("evaluate", "lab", "--over", "plain", "--metrics", "f1_macro,balanced_accuracy")
for row in gains["gains"]["rows"]:
    low, high = row["joint_low"], row["joint_high"]
    print(
        f"{row['name']:10} {row['metric']:18} {low:+.3f} to {high:+.3f}  {row['verdict']}"
    )
