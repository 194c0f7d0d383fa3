"""What several files of this folder start from."""

import pytest
from PIL import Image


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((80, 60), 90).convert("RGB").save(path)
    return path
