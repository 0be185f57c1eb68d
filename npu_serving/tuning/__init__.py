"""tune: settings of a deployment tried one after the other under load, and the best one written into its file."""
