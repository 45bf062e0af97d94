import pytest
from radio_images import PIXELS, make_hdu

from diffsky.images import load_image


@pytest.fixture
def image():
    return load_image(make_hdu(PIXELS[None, None]))
