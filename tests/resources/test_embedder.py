"""The encoder as a resource."""

import pickle
import subprocess
import sys

import dagster as dg

from resources.embedder import EmbedderResource
from tests.conftest import ROOT

RESOURCE = EmbedderResource(
    model="vit_tiny_patch16_224", weights="hub", precision="fp32", compiled=False
)


def test_the_settings_reach_the_embedder_and_travel() -> None:
    made = RESOURCE.create_resource(dg.build_init_resource_context())
    assert pickle.loads(pickle.dumps(made)) == made
    assert made.dim == 192


def test_making_it_loads_no_model_library() -> None:
    code = (
        "import sys, dagster as dg\n"
        "from resources.embedder import EmbedderResource\n"
        "r = EmbedderResource(model='m', weights='hub', precision='fp32', compiled=False)\n"
        "r.create_resource(dg.build_init_resource_context())\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
