"""Values quoted for the language of a file, one module a language. Nowhere else is a value quoted."""
