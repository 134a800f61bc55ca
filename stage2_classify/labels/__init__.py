"""The label schema: from raw facts to class numbers and back. No torch."""
