"""The package's streams: a folder each, with contract, SQL and simulator. See `contracts.streams` for how they are found."""
