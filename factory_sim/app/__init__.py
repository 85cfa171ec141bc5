"""The what-if page: the whole simulator in a browser, for people who will not write YAML.

`draft` is a scenario with changes, `fields` what can be changed, `uploads` what strangers may send;
`work` is what a child process does, `jobs` who starts, watches and ends it. None of them knows the
browser. `page`, `editor` and `views` do, and `charts` draws.
"""
