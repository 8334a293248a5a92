# The program. `withController` adds what `serve` needs, `withSimulators` what `demo` and `simulate` need.
{
  lib,
  python3Packages,
  openssh,
  withController ? false,
  withSimulators ? false,
}:
let
  inherit (lib.importTOML ../pyproject.toml) project;

  # What runs is tested with 2.10; older ones answer differently, and nixpkgs may still have one.
  pygithubVersion = "2.10.0";
  pygithub =
    if lib.versionAtLeast python3Packages.pygithub.version pygithubVersion then
      python3Packages.pygithub
    else
      python3Packages.pygithub.overridePythonAttrs {
        version = pygithubVersion;
        src = python3Packages.fetchPypi {
          pname = "pygithub";
          version = pygithubVersion;
          hash = "sha256:90ff24ef1cd1bd57124c2a3869cafee9d7b066909129ecdaba2c2d1903bc118d"; # the archive's, as in requirements.lock
        };
      };

  # nixpkgs has none: the files of Swagger UI.
  fastapiSwaggerVersion = "0.4.64";
  fastapi-swagger = python3Packages.buildPythonPackage {
    pname = "fastapi-swagger";
    version = fastapiSwaggerVersion;
    pyproject = true;
    src = python3Packages.fetchPypi {
      pname = "fastapi_swagger";
      version = fastapiSwaggerVersion;
      hash = "sha256:853e0459d4947f6b909c8f4627cd81eb555df36a992041782544ae95df85e489"; # the archive's, as in requirements-controller.lock
    };
    build-system = [ python3Packages.hatchling ];
    dependencies = [ python3Packages.fastapi ];
    doCheck = false;
    pythonImportsCheck = [ "fastapi_swagger" ];
  };

  controller =
    (with python3Packages; [
      asyncpg
      fastapi
      prometheus-client
      uvicorn
    ])
    ++ [ fastapi-swagger ];
  simulators = with python3Packages; [
    graphql-core
    openapi-core
    starlette
    uvicorn
  ];
in
python3Packages.buildPythonApplication {
  pname = project.name;
  inherit (project) version;
  pyproject = true;

  # Only what is built from, so that an edited test or page does not rebuild the program.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../LICENSE
      ../LICENSES
      ../README.md
      ../examples/gpu-job.yml
      ../pyproject.toml
      ../runner_provisioner
    ];
  };

  build-system = [ python3Packages.hatchling ];

  dependencies =
    (with python3Packages; [
      aiosqlite
      alembic
      anyio
      asyncssh
      click
      cryptography
      httpx
      pydantic
      pydantic-settings
      pyjwt
      pyyaml
      sniffio
      sqlalchemy
      structlog
      tenacity
    ])
    ++ [ pygithub ]
    ++ (python3Packages.sqlalchemy.optional-dependencies.asyncio or [ python3Packages.greenlet ])
    ++ lib.optionals withController controller
    ++ lib.optionals withSimulators simulators;

  optional-dependencies = { inherit controller simulators; };

  # `ssh` and `ssh-add` are run as programs; the user's own come first.
  makeWrapperArgs = [
    "--suffix"
    "PATH"
    ":"
    (lib.makeBinPath [ openssh ])
  ];

  # checks.nix runs the tests, so that using the program does not wait for them.
  doCheck = false;
  pythonImportsCheck = [ "runner_provisioner.cli.app" ];

  meta = {
    inherit (project) description;
    license = lib.licenses.mit;
    mainProgram = "runner-provisioner";
    platforms = lib.platforms.unix;
  };
}
