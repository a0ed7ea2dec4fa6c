"""Croissant: a release described for programs that find and load datasets.

Source: the Croissant format specification, version 1.0 (MLCommons), whose ``@context``
this is.
"""

import json
from typing import Any

from curation.release.manifest import Manifest
from curation.release.shard import ReleaseFile

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

_FORMATS = {
    ".tar": "application/x-tar",
    ".parquet": "application/x-parquet",
    ".idx": "text/plain",
    ".npy": "application/octet-stream",
}

_COLUMNS = {
    "key": ("sc:Text", "The sample's key: the name of its files in the tar."),
    "source_shard": ("sc:Text", "The raw shard that it is from."),
    "source_key": ("sc:Text", "Its key there."),
    "sha256": ("sc:Text", "Of the encoded image, in hex."),
    "format": ("sc:Text", "What the image's bytes are: jpeg, png, webp."),
    "width": ("sc:Integer", "Pixels, as encoded."),
    "height": ("sc:Integer", "Pixels, as encoded."),
}
"""Columns that the table of every release has."""


def format_croissant(manifest: Manifest) -> bytes:
    """Write ``croissant.json``: all files by sha256, and the columns of the tables.

    Args:
        manifest: Of the release, with its tars.
    """
    settings = manifest.recipe
    licence = (settings.get("card") or {}).get("licence")
    columns = dict(_COLUMNS)
    if settings.get("filtered", {}).get("captions", True):
        columns["caption"] = ("sc:Text", "The caption.")
    for name in settings.get("classifiers", {}):
        columns[name] = ("sc:Float", "A classifier's score.")
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": manifest.name,
        "description": f"{manifest.num_samples} images with captions, selected by the "
        f"recipe {settings['name']}; README.md says how.",
        "version": f"{manifest.number}.0.0",
        "datePublished": manifest.created,
        **({"license": licence} if licence else {}),
        "isLiveDataset": False,
        "distribution": [
            *(_file(file) for shard in manifest.shards for file in shard.files),
            _tables(),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "description": "One record per sample.",
                "key": {"@id": "samples/key"},
                "field": [_field(name, *told) for name, told in columns.items()],
            }
        ],
    }
    return json.dumps(described, indent=1, ensure_ascii=False).encode() + b"\n"


def _file(file: ReleaseFile) -> dict[str, Any]:
    suffix = file.path[file.path.rindex(".") :]
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.num_bytes} B",
        "encodingFormat": _FORMATS[suffix],
        "sha256": file.sha256,
    }


def _tables() -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "tables",
        "name": "tables",
        "description": "The tables beside the tars.",
        "encodingFormat": _FORMATS[".parquet"],
        "includes": "*.parquet",
    }


def _field(name: str, kind: str, described: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": f"samples/{name}",
        "description": described,
        "dataType": kind,
        "source": {"fileSet": {"@id": "tables"}, "extract": {"column": name}},
    }
