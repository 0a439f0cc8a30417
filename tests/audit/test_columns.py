"""Columns of few values: attributes, unless their name or the pictures say that they are sites."""

import numpy as np
import pandas as pd
import pytest

from ensembler.audit.columns import group_like_columns, group_like_names
from ensembler.audit.group_findings import find_unused_groups


@pytest.fixture(params=[3, 4, 7])
def data(request):
    rng = np.random.default_rng(request.param)
    n = 200
    labels, sites = rng.integers(0, 3, n), rng.integers(0, request.param, n)
    own = rng.normal(0, 20, (n, 16, 16, 3)) + rng.normal(0, 10, (n, 1, 1, 3))

    def thumbs(tint):
        of_site = np.linspace(-tint, tint, request.param)[sites][:, None, None, None]
        return np.clip(128 + own + of_site, 0, 255).astype(np.uint8)

    return labels, sites.astype(str), thumbs


def found(column, data, tint):
    labels, sites, thumbs = data
    table = pd.DataFrame(
        {
            column: sites,
            "colour": np.random.default_rng(1).integers(0, 5, len(sites)).astype(str),
        }
    )
    return group_like_columns(table, labels, thumbs(tint), None)


@pytest.mark.parametrize("name", ["hospital", "scanner_id", "centre", "Camera", "lab"])
def test_a_site_of_few_values_that_pictures_show_is_reported(data, name):
    (one,) = found(name, data, 60)
    assert (one.column, one.n_values, one.only_named) == (name, len(set(data[1])), False)
    (finding,) = find_unused_groups([one], None, 5)
    assert finding.severity == "warning"
    folds = f", folds: {{count: {one.n_values}}}" if one.n_values < 5 else ""
    assert finding.fix == f"data: {{group: {name}}}{folds}"


def test_a_site_that_pictures_do_not_show_is_a_note(data):
    (one,) = found("hospital", data, 0)
    assert one.only_named
    (finding,) = find_unused_groups([one], None, 5)
    assert finding.severity == "note"
    assert "alike" not in finding.message


@pytest.mark.parametrize(("tint", "reported"), [(0, 0), (100, 1)])
def test_a_column_of_no_such_name_needs_pictures_that_leave_no_doubt(data, tint, reported):
    assert len(found("variant", data, tint)) == reported


@pytest.mark.parametrize(
    "name", ["label_source_text", "colour", "laboured", "percentage", "centimetres"]
)
def test_attributes_are_not_taken_for_sites_by_their_names(data, name):
    assert found(name, data, 0) == []


def test_two_values_are_an_attribute(data):
    labels, sites, thumbs = data
    table = pd.DataFrame({"hospital": (sites == "0").astype(str)})
    assert group_like_columns(table, labels, thumbs(60), None) == []


def test_sites_in_file_names_are_reported_when_pictures_show_them(data):
    labels, sites, thumbs = data
    paths = pd.Series([f"cam{site}_{i:03d}.png" for i, site in enumerate(sites)])
    ((one, values),) = group_like_names(paths, labels, thumbs(60), [])
    assert (one.pattern, one.n_values) == ("{group}_{number}", len(set(sites)))
    assert values.tolist() == [f"cam{site}" for site in sites]
    assert group_like_names(paths, labels, thumbs(0), []) == []
