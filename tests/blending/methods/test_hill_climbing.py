import pytest

from ensembler.blending import create_blend
from ensembler.blending.testing import BlendContract


class TestHillClimbing(BlendContract):
    contains_members = True
    tolerance = 0.05  # it climbs member by member, in their order

    @pytest.fixture
    def method(self):
        return create_blend("hill_climb")
