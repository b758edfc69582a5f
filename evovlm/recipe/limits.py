"""How large the numbers and lists of a recipe may be, and why. Checked when a recipe is read, before any work.

Each limit is far above what anyone has searched or merged, and low enough that a recipe within all of them is planned
in seconds. Knows numbers only.
"""

# A recipe file. The longest that we know (a route of 512 steps; a mergekit merge with a condition for every module of
# every layer) has a third of it. PyYAML reads this much in about four seconds.
MOST_BYTES = 262_144

# Models of one merge. Model soups of up to 200 are published; every source adds a term to every tensor.
MOST_SOURCES = 256
# Layers of a model or of a stack. The deepest published language model has 126; stacks of several have below 400.
MOST_LAYERS = 1024
# Entries of `groups`, and patterns of one. Every tensor's name is compared with every pattern.
MOST_GROUPS = 4096
MOST_PATTERNS = 16_384
# Conditions and gradient points of a mergekit file, which are evaluated for every tensor of every layer.
MOST_CONDITIONS = 1000

# A weight, lambda, or bound of a search, either sign. float16 ends at 65,504.
MOST_WEIGHT = 1e6
# The total scale of the residual stream at any step of a route, and its inverse. float32 ends at 3e38; half of the
# exponents are left to the layers themselves.
MOST_SCALE = 1e18

# Candidates of a search: a log has about a kilobyte per candidate, and is read whole on resume.
MOST_TRIALS = 1_000_000
# Candidates of a generation: CMA-ES keeps all of them, each with one number per gene.
MOST_POPULATION = 10_000
# Questions per candidate. Their ids are in the study's header; no public benchmark of these tasks has as many.
MOST_ITEMS = 1_000_000
MOST_MADE_ITEMS = 20_000  # of a task that generates them: a minute; so many give an interval of half a point
# Questions answered at once.
MOST_BATCH = 65_536
# Seeds are stored as signed 64-bit integers by NumPy's and torch's generators.
MOST_SEED = 2**63 - 1
# Stage two opens each winner of stage one as a source of its own.
MOST_WINNERS = 64
# Scores besides the task's own. Non-dominated sorting with more than a handful ranks nearly everything equal.
MOST_OBJECTIVES = 8

# Options of a method that a search varies: a gene each.
MOST_OPTIONS = 32
# How often a route may use a layer: a route has at most 512 steps.
MOST_REPEATS = 512
# Hidden units of the network that gives a route's scales: its weights are genes, and CMA-ES keeps genes squared.
MOST_HIDDEN = 256

# Beams and new tokens of a cheap evaluation: both only shorten what the task asks.
MOST_BEAMS = 64
MOST_NEW_TOKENS = 65_536
