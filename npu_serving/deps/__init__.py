"""Archives: which ones a tree declares, bringing them in, verified, and carrying them elsewhere.

which ones      workspace, evaluator, starlark_files, tree_facts: a WORKSPACE is evaluated    limits: within bounds
                lock: the file that says what is needed    locking, comparing, pinning: making one
                toolchains: the tools that may be fetched
fetching        fetch: the plan and the work     engine: threads and progress      report: what is told
  of one file   attempts: what is tried          mirrors: where, in what order     connection: one request
                transfer: one answer's bytes     partial: the unfinished file      heal, heal_zip: compressed anew
keeping         store: by digest, the distdir    importing: files fetched by hand
carrying        store_server: to other machines on the network
                bundle, bundle_reader, unbundle, wheels: to those without one
"""
