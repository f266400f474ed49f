"""The public name: `import flor`, `python -m flor`. It only hands on."""

__version__ = "0.1.0"
