"""The version of the project: of the package, of what a run's config.json says, and of its report."""

__version__ = '0.1.0'
