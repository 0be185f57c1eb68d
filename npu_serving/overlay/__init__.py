"""What is added to a serving tree so that the adapter is linked in: third_party/tf_adapter and three deps."""
