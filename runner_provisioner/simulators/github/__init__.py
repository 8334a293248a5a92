"""GitHub as far as runners and workflow runs need it: a REST server, the runners' own protocol and a stand-in runner.

`GitHubSimulator` is imported from `runner_provisioner.simulators.github.server`.
"""
