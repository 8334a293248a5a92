# What `nix flake check` builds: the packages, the apps (their scripts pass shellcheck), the tests of the decisions,
# and on Linux the systemd units of the module.
{
  nixpkgs,
  pkgs,
  system,
  module,
  packages,
  apps,
}:
let
  inherit (pkgs) lib;

  nixos = nixpkgs.lib.nixosSystem {
    modules = [
      module
      {
        nixpkgs.hostPlatform = system;
        system.stateVersion = "25.11";
        services.runner-provisioner.cleanup = {
          enable = true;
          repository = "acme/site";
          runpodKeyFile = "/run/secrets/runpod-key";
          githubAppId = "12345";
          githubAppPrivateKeyFile = "/run/secrets/github-app.pem";
        };
        services.runner-provisioner.serve = {
          enable = true;
          runpodKeyFile = "/run/secrets/runpod-key";
          databaseFile = "/run/secrets/database";
        };
      }
    ];
  };
  unit = name: nixos.config.systemd.units.${name}.unit;

  tested = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../pyproject.toml
      ../runner_provisioner
      ../tests/conftest.py
      ../tests/support
      ../tests/unit
    ];
  };
  python = pkgs.python3.withPackages (
    ps:
    packages.with-simulators.dependencies
    ++ (with ps; [
      hypothesis
      pytest
    ])
  );
in
{
  package = packages.runner-provisioner;
  package-with-controller = packages.with-controller;
  package-with-simulators = packages.with-simulators;

  apps = pkgs.writeText "apps" (lib.concatMapStringsSep "\n" (app: app.program) (lib.attrValues apps) + "\n");

  # Those that need neither a network nor other programs. Without the settings in pyproject.toml, some of which only
  # the locked versions know.
  decisions = pkgs.runCommand "runner-provisioner-decisions" { nativeBuildInputs = [ python ]; } ''
    cd ${tested}
    export HOME="$TMPDIR" PYTHONPATH=.:tests PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY="$TMPDIR/hypothesis"
    python -m pytest -q -c /dev/null --rootdir=. -p no:cacheprovider tests/unit/test_decisions.py tests/unit/test_ladder.py \
      tests/unit/test_names.py tests/unit/test_orphans.py tests/unit/test_pods_and_requests.py
    touch "$out"
  '';
}
// lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
  module = pkgs.runCommand "runner-provisioner-units" { } ''
    grep -q LoadCredential=runpod-key: ${unit "runner-provisioner-cleanup.service"}/runner-provisioner-cleanup.service
    grep -q OnCalendar= ${unit "runner-provisioner-cleanup.timer"}/runner-provisioner-cleanup.timer
    grep -q LoadCredential=database: ${unit "runner-provisioner-serve.service"}/runner-provisioner-serve.service
    grep -q RUNPOD_API_KEY_FILE=%d/runpod-key ${unit "runner-provisioner-serve.service"}/runner-provisioner-serve.service
    touch "$out"
  '';
}
