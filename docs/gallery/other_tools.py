# %% [markdown]
# # Blending predictions of other tools, without torch
#
# Any model that gives out-of-fold and test probabilities can be a member: here four of
# scikit-learn's on the handwritten digits. The plain install is enough.

# %%
import json
import subprocess
import sys

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from ensembler import Run
from ensembler.blending import create_blend


def ens(*arguments: str) -> dict:
    """What a command answers (in a notebook: `!ens ...`)."""
    command = [sys.executable, "-m", "ensembler", *arguments, "--json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


# %% [markdown]
# ## The other tool
# Every model predicts each training row by a copy that never saw it, and the test rows by the mean
# of its copies.

# %%
images, labels = load_digits(return_X_y=True)
images = images / 16
everything = np.arange(len(labels))
train, test = train_test_split(everything, test_size=0.5, stratify=labels, random_state=0)
folds = np.zeros(len(train), dtype=int)
splitter = StratifiedKFold(4, shuffle=True, random_state=0)
for number, (_, rows) in enumerate(splitter.split(train, labels[train])):
    folds[rows] = number

models = {
    "neighbours": KNeighborsClassifier(10),
    "trees": ExtraTreesClassifier(60, random_state=0),
    "linear": LogisticRegression(C=0.1, max_iter=2000),
    "bayes": GaussianNB(var_smoothing=0.1),
}
for name, model in models.items():
    oof = np.zeros((len(train), 10))
    unseen = np.zeros((len(test), 10))
    for number in range(4):
        inside, outside = train[folds != number], folds == number
        model.fit(images[inside], labels[inside])
        oof[outside] = model.predict_proba(images[train[outside]])
        unseen += model.predict_proba(images[test]) / 4
    np.save(f"{name}_oof.npy", oof)
    np.save(f"{name}_test.npy", unseen)

# %% [markdown]
# ## Bringing them in
# Files of `.npy` carry no ids, so `--by-position` says that their rows are those of the tables.

# %%
ids = [f"digit{row}" for row in train]
pd.DataFrame({"id": ids, "label": labels[train], "fold": folds}).to_csv(
    "labels.csv", index=False
)
pd.DataFrame({"id": [f"digit{row}" for row in test]}).to_csv("test.csv", index=False)
members = [f"--member={name}={name}_oof.npy,{name}_test.npy" for name in models]
tables = ["--labels", "labels.csv", "--test-ids", "test.csv", "--by-position"]
print(ens("import", "digits-elsewhere", *tables, *members)["members"])

# %% [markdown]
# ## A blend that says how good it is
# Cross-fitted: each row is scored by a blend fitted without it.

# %%
run = Run.open("digits-elsewhere")
outcome = run.blend(method="auto", submit=True)
score = outcome.result.scores["cross_fitted"]
print(f"log loss {score['log_loss']:.4f}, accuracy {score['accuracy']:.4f}")
print(outcome.result.gain)

# %% [markdown]
# ## The same on arrays, in the manner of scikit-learn

# %%
stack = run.stack()  # probabilities [members, samples, classes]
blend = create_blend("loglinear").fit(stack, run.labels())
probabilities = blend.predict_proba(run.stack("test"))
accuracy = float((probabilities.argmax(axis=1) == labels[test]).mean())
print(f"accuracy on {len(test)} rows that nothing was fitted on: {accuracy:.4f}")
