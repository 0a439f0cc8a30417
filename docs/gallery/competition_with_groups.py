# %% [markdown]
# # A competition whose images come in groups
#
# Six images of each origin (a person, a house, a plant), and the test set has other origins. Plain
# folds put images of one origin on both sides of a split, and the score that they show is not the
# one that the test set gives. Runs in an empty folder; needs the extra `train`.

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
# Drawn shapes: `train.csv` has path, label and origin, `test.csv` has paths, and `answers.csv` has
# what only the organisers know.

# %%
ens("demo-data", "shapes", "shapes", "--n", str(IMAGES), "--groups")

# %% [markdown]
# ## Is there a leak, and what is it worth?
# Without `group` the audit names the column that looks like one. The leak test fits one cheap
# model under plain and under grouped folds.

# %%
Path("recipe.yaml").write_text(
    f"""
name: competition
data: {{source: shapes/train.csv, targets: label, group: origin, test: shapes/test.csv}}
folds: {{count: 3}}
input: {{size: 32}}
augment: light
views: [identity, hflip]
defaults: {{epochs: {EPOCHS}, lr: 3e-3, batch_size: 32}}
members:
  resnet: {{backbone: test_resnet}}
  byobnet: {{backbone: test_byobnet}}
blend: {{method: auto, metric: log_loss}}
submission: {{columns: [id, label], template: shapes/sample_submission.csv}}
"""
)
audit = ens("audit", "recipe.yaml", "--leak-test", "--set", "data.group=null")
print([finding["code"] for finding in audit["findings"]])
print("plain against grouped folds:", audit["leak_test"])

# %% [markdown]
# ## Train, predict, blend, submit
# Interrupt it at any time: the same command resumes. A submission is there from the first fold on.

# %%
result = ens("run", "recipe.yaml")
print(result["blend"], result["submission"])

# %% [markdown]
# ## What can be believed
# Scores out of fold, every origin validated by networks that never saw it; the blend's are
# cross-fitted, and its gain has an interval over whole origins.

# %%
run = Run.open("competition")
for row in run.evaluate().rows:
    print(f"{row.name:10} {row.split:8} {row.metrics['log_loss']:.4f}")
auto = run.blends["auto"]
print("members:", list(run.members), "blends:", list(run.blends))

# %% [markdown]
# ## Afterwards: what the organisers see

# %%
answers = pd.read_csv("shapes/answers.csv").set_index("id")["label"]
submitted = pd.read_csv(result["submission"]).set_index("id")["label"]
assert list(submitted.index) == list(answers.index)
accuracy = float((submitted == answers).mean())
print(f"accuracy on the test set: {accuracy:.3f}")
