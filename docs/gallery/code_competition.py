# %% [markdown]
# # A code competition: hidden images, no network, an hour
#
# The notebook that is submitted meets images that nobody has seen, on a machine without a network,
# without the training images and without your folder of runs. What it needs goes along in two
# files: wheels, and a bundle. Runs in an empty folder; needs the extra `train`.

# %%
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from ensembler import Predictor, Run

IMAGES, EPOCHS = 600, 12


def ens(*arguments: str) -> dict:
    """What a command answers (in a notebook: `!ens ...`)."""
    command = [sys.executable, "-m", "ensembler", *arguments, "--json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


# %% [markdown]
# ## At home: train, blend, pack
# `code.ens` holds the checkpoints, the fitted blend, the class names and how images are prepared.
# With `--precision bfloat16` it is half as large, and says by how much probabilities move.

# %%
ens("demo-data", "shapes", "shapes", "--n", str(IMAGES))
Path("recipe.yaml").write_text(
    f"""
name: code
data: {{source: shapes/train.csv, targets: label, test: shapes/test.csv}}
folds: {{count: 3}}
input: {{size: 32}}
views: [identity, hflip]
defaults: {{epochs: {EPOCHS}, lr: 3e-3, batch_size: 32}}
members:
  resnet: {{backbone: test_resnet}}
  byobnet: {{backbone: test_byobnet}}
blend: {{method: auto, metric: log_loss}}
submission: {{columns: [id, label], template: shapes/sample_submission.csv}}
"""
)
ens("run", "recipe.yaml")
packed = ens("pack", "code", "--out", "upload/code.ens")
print(packed["bytes"], "bytes; off by at most", packed["max_difference"])

# %% [markdown]
# ## At home: the wheels
# On a machine with the same Python and processor, once; upload the folder beside the bundle:
#
#     pip download --dest upload/wheels "ensembler-toolkit[train]"

# %% [markdown]
# # The notebook that is submitted
# ## Install from the uploaded folder, with the network off
#
#     pip install --no-index --find-links /input/upload/wheels "ensembler-toolkit[train]"

# %% [markdown]
# ## What is there: the upload, hidden images, and a sample submission
# (Here: another folder, in which neither the run nor the training images are.)

# %%
answers = pd.read_csv("shapes/answers.csv", dtype=str).set_index("id")["label"]
for path in pd.read_csv("shapes/test.csv", dtype=str)["path"]:
    hidden = Path("notebook/hidden") / path
    hidden.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path("shapes") / path, hidden)
shutil.copy("shapes/sample_submission.csv", "notebook")
shutil.copy("upload/code.ens", "notebook")
run = Run.open(Path("artifacts/code").resolve())
os.chdir("notebook")

# %% [markdown]
# ## Does the bundle open here, and does it predict what it predicted at home?
# Both are checked by loading it: drawn reference images travel in it with their probabilities.

# %%
predictor = Predictor.load("code.ens", device="cpu")
print(predictor.classes_)

# %% [markdown]
# ## One image, to see that it works

# %%
first = min(path for path in Path("hidden").rglob("*") if path.is_file())
print(first.name, dict(zip(predictor.classes_, predictor(first)[0].round(3), strict=True)))

# %% [markdown]
# ## All of them, in the form of the sample submission
# The ids of the sample are matched by path or by file name. A broken image keeps an empty row and
# is named; killed half-way, the same line resumes.

# %%
sample = "sample_submission.csv"
made = ens("predict", "code.ens", "hidden", "--template", sample, "--out", "submission.csv")
submission = pd.read_csv("submission.csv", dtype=str)
print(made["rows"], "rows,", len(made["failed"]), "broken")

# %% [markdown]
# ## The same answers as at home

# %%
at_home = pd.read_csv(run.store.submission_path, dtype=str)
agreement = float((submission == at_home).all(axis=1).mean())
accuracy = float((submission.set_index("id")["label"] == answers[submission["id"]]).mean())
print(f"equal rows: {agreement:.3f}, accuracy on the hidden images: {accuracy:.3f}")
