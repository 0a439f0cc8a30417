import json


def test_versions_devices_and_extras_are_shown_to_people_and_scripts(ens_here):
    told = json.loads(ens_here("doctor", "--json").stdout)
    shown = ens_here("doctor").stdout
    for device in told["devices"]:
        assert f"device: {device}" in shown
    for extra in told["extras"]:
        assert f"extra {extra['name']} " in shown
    assert f"numpy {told['packages']['numpy']}" in shown
