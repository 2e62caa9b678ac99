"""What fxhpc is, what it needs, and which commands it brings. Tools are set in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

version: dict[str, str] = {}
exec(Path("fxhpc/version.py").read_text(encoding="utf-8"), version)

setup(
    name="fxhpc",
    version=version["__version__"],
    description="funcX without the cloud: run Python functions on your own supercomputers",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[*find_packages(include=["fxhpc", "fxhpc.*"]), "fxhpc.configs"],
    package_dir={"fxhpc.configs": "configs"},
    package_data={
        "fxhpc": ["py.typed", "containers/*.sh", "endpoint/*.sh"],
        "fxhpc.configs": ["*.yaml"],
    },
    install_requires=[
        "click>=8.1",
        "dill>=0.3.8",
        "jinja2>=3.1",
        "msgspec>=0.19",
        "parsl>=2024.6",
        "psutil>=5.9",
        "pydantic>=2.7",
        "pyyaml>=6",
        "pyzmq>=26",
        "rich>=13",
        "setproctitle>=1.3",
    ],
    entry_points={
        "console_scripts": [
            "fxhpc = fxhpc.cli.main:main",
            "fxhpc-endpoint = fxhpc.cli.compat:main",
        ]
    },
    extras_require={
        "test": [
            "coverage>=7",
            "hypothesis>=6.100",
            "import-linter>=2.1",
            "ipykernel>=6.29",
            "jsonschema>=4.18",
            "jupyter_client>=8.6",
            "mpi4py>=4",
            "mypy>=1.13",
            "numpy>=1.24",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "types-psutil",
            "types-pyyaml",
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
)
