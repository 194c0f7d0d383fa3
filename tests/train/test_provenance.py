"""The settings that a run may go on with when they change are settings: a name that nothing has lets nothing change."""

import dataclasses

import pytest
from trl import SFTConfig

from ptdpo.config import DataSettings
from ptdpo.train import PTDConfig, provenance
from ptdpo.train.setting_types import RENAMED

KNOWN = {f"train.{field.name}" for kind in (PTDConfig, SFTConfig) for field in dataclasses.fields(kind)}
OTHER_VERSIONS = {f"train.{name}" for pair in RENAMED for name in pair}


@pytest.mark.parametrize("names", [provenance._LAYOUT - {"processes"}, provenance._LENGTH, provenance._BESIDE])
def test_every_name_is_that_of_a_setting(names):
    assert not names - KNOWN - OTHER_VERSIONS


def test_every_prefix_begins_the_name_of_a_setting():
    assert [one for one in provenance._BESIDE_PREFIXES if not any(name.startswith(one) for name in KNOWN)] == []


def test_what_names_columns_are_settings_of_data():
    assert {field.name for field in dataclasses.fields(DataSettings)} >= provenance._NAMING


def test_parts_of_a_mapping_may_change_as_the_whole_may():
    assert provenance._may_change("train.fsdp_config.state_dict_type")
    assert provenance._may_change("train.gradient_checkpointing_kwargs.use_reentrant")
    assert not provenance._may_change("train.generation_kwargs.top_p")
    assert not provenance._may_change("train.deepspeed.zero_optimization.stage")
