"""The zoo: five small models with a common ancestor that ship with the package, their data and their trainer."""
