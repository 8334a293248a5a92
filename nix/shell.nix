# `nix develop`: an interpreter with everything that the program and its tests import, and the tools that check them.
{
  pkgs,
  with-controller,
  with-simulators,
}:
let
  python = pkgs.python3.withPackages (
    ps:
    with-controller.dependencies
    ++ with-simulators.dependencies
    ++ (with ps; [
      hatchling
      hypothesis
      mypy
      playwright
      pytest
      pytest-cov
      pytest-timeout
      pytest-xdist
      respx
      types-pyyaml
    ])
  );
in
pkgs.mkShell {
  packages = [
    python
    pkgs.check-jsonschema
    pkgs.git
    pkgs.gnumake
    pkgs.hadolint
    pkgs.openssh
    pkgs.ruff
    pkgs.shellcheck
    pkgs.uv
    pkgs.zizmor
  ]
  # nixpkgs builds it for Linux alone.
  ++ pkgs.lib.optionals pkgs.stdenv.hostPlatform.isLinux [ pkgs.chromium ];
  # The working tree is what runs: `python -m runner_provisioner`, `python -m pytest`.
  shellHook = ''
    export PYTHONPATH="$PWD''${PYTHONPATH:+:$PYTHONPATH}"
  '';
}
