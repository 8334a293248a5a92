# legacyPackages of one system. What is built, is built by the host's own shell and interpreter.
{ lib, system }:
let
  # The tests put the interpreter that they run with here.
  host = import ./host.nix;

  derive =
    {
      name,
      script,
      extra ? { },
      ...
    }@attributes:
    derivation (
      {
        inherit name system;
        builder = "/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = "/usr/bin:/bin";
      }
      // extra
    )
    // removeAttrs attributes [ "name" "script" "extra" ];

  known =
    name: version:
    derive {
      inherit name version;
      script = ''
        mkdir -p "$out/bin"
      '';
      meta.mainProgram = name;
    };

  python = known "python3" "3.13" // {
    withPackages =
      f:
      derive {
        name = "python3-env";
        extra.packages = f python3Packages;
        script = ''
          mkdir -p "$out/bin"
          printf '#!/bin/sh\nexec %s "$@"\n' ${host.python} > "$out/bin/python"
          chmod +x "$out/bin/python"
        '';
      };
  };

  python3Packages =
    lib.genAttrs [
      "aiosqlite"
      "alembic"
      "anyio"
      "asyncpg"
      "asyncssh"
      "click"
      "cryptography"
      "fastapi"
      "graphql-core"
      "greenlet"
      "hatchling"
      "httpx"
      "hypothesis"
      "mypy"
      "openapi-core"
      "playwright"
      "prometheus-client"
      "pydantic"
      "pydantic-settings"
      "pyjwt"
      "pytest"
      "pytest-cov"
      "pytest-timeout"
      "pytest-xdist"
      "pyyaml"
      "respx"
      "sniffio"
      "sqlalchemy"
      "starlette"
      "structlog"
      "tenacity"
      "types-pyyaml"
      "uvicorn"
    ] (name: known name "1")
    // {
      # As old as nixpkgs may have it.
      pygithub = known "pygithub" "2.8.1" // {
        overridePythonAttrs = changed: known "pygithub" changed.version // { inherit (changed) src; };
      };
      fetchPypi =
        { pname, version, hash }:
        if lib.hasPrefix "sha256:" hash || lib.hasPrefix "sha256-" hash then
          { inherit pname version hash; }
        else
          throw "fetchPypi: ${hash} is no hash";
      inherit buildPythonApplication;
      # What is built besides the program is taken as given.
      buildPythonPackage =
        {
          pname,
          version,
          pyproject,
          src,
          build-system,
          dependencies,
          doCheck,
          pythonImportsCheck,
        }:
        assert pyproject && build-system == [ python3Packages.hatchling ];
        known pname version // { inherit src; };
    };

  # Builds the wheel from the source that the package chose, so that a file left out is noticed.
  buildPythonApplication =
    {
      pname,
      version,
      pyproject,
      src,
      build-system,
      dependencies,
      optional-dependencies,
      makeWrapperArgs,
      pythonImportsCheck,
      doCheck,
      meta,
    }:
    assert pyproject && build-system == [ python3Packages.hatchling ];
    derive {
      name = "${pname}-${version}";
      inherit
        pname
        version
        meta
        dependencies
        optional-dependencies
        ;
      extra = { inherit src dependencies; };
      script = ''
        cp -r "$src" source && chmod -R u+w source && cd source
        HOME="$PWD" ${host.python} -m hatchling build -t wheel -d ../dist >&2
        mkdir -p "$out/bin" "$out/lib"
        ${host.python} -m zipfile -e ../dist/*.whl "$out/lib"
        cat > "$out/bin/${meta.mainProgram}" <<END
        #!/bin/sh
        PYTHONPATH=$out/lib exec ${host.python} -c 'from runner_provisioner.cli import main; main()' "\$@"
        END
        chmod +x "$out/bin/${meta.mainProgram}"
        cd / && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$out/lib ${host.python} -c 'import ${lib.concatStringsSep ", " pythonImportsCheck}'
      '';
    };

  self = {
    inherit lib python3Packages;
    python3 = python;
    stdenv.hostPlatform = {
      inherit system;
      isLinux = builtins.match ".*-linux" system != null;
    };
    callPackage = lib.callPackageWith self;

    mkShell =
      { packages, shellHook }:
      derive {
        name = "shell";
        inherit shellHook;
        extra = { inherit packages; };
        script = ''touch "$out"'';
      };

    runCommand =
      name: attributes: script:
      derive {
        inherit name;
        extra = attributes // {
          TMPDIR = "/tmp";
          PATH = "${lib.makeBinPath (attributes.nativeBuildInputs or [ ])}:/usr/bin:/bin";
        };
        inherit script;
      };

    writeText =
      name: text:
      derive {
        inherit name;
        extra = { inherit text; };
        script = ''printf '%s' "$text" > "$out"'';
      };

    writeShellApplication =
      { name, text }:
      derive {
        inherit name;
        meta.mainProgram = name;
        extra.text = ''
          #!/usr/bin/env bash
          set -o errexit
          set -o nounset
          set -o pipefail

          ${text}
        '';
        script = ''
          mkdir -p "$out/bin"
          printf '%s' "$text" > "$out/bin/${name}"
          bash -n "$out/bin/${name}"
          chmod +x "$out/bin/${name}"
        '';
      };
  }
  // lib.genAttrs [
    "check-jsonschema"
    "chromium"
    "git"
    "gnumake"
    "hadolint"
    "openssh"
    "ruff"
    "shellcheck"
    "uv"
    "zizmor"
  ] (name: known name "1");
in
self
