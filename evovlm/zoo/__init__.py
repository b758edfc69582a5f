"""The zoo: five small models of one ancestry that ship with the package, their data and their trainer."""
