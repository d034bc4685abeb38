"""The ledger, which holds the truth about every job."""
