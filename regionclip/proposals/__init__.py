"""Class-agnostic boxes: ways to find them, behind the one interface of `proposer`, and how well they cover objects."""
