{
  description = "Runs GitHub Actions jobs on rented GPUs and takes everything away again";

  # Not a release branch: those keep older libraries than pyproject.toml asks for.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      forAllSystems = f: nixpkgs.lib.genAttrs systems (system: f system nixpkgs.legacyPackages.${system});
    in
    {
      packages = forAllSystems (
        _: pkgs: rec {
          default = runner-provisioner;
          runner-provisioner = pkgs.callPackage ./nix/package.nix { };
          with-controller = pkgs.callPackage ./nix/package.nix { withController = true; };
          with-simulators = pkgs.callPackage ./nix/package.nix { withSimulators = true; };
        }
      );

      apps = forAllSystems (
        system: pkgs:
        import ./nix/apps.nix {
          inherit pkgs;
          inherit (self.packages.${system}) runner-provisioner with-simulators;
        }
      );

      devShells = forAllSystems (
        system: pkgs: {
          default = import ./nix/shell.nix {
            inherit pkgs;
            inherit (self.packages.${system}) with-controller with-simulators;
          };
        }
      );

      checks = forAllSystems (
        system: pkgs:
        import ./nix/checks.nix {
          inherit nixpkgs pkgs system;
          module = self.nixosModules.default;
          packages = self.packages.${system};
          apps = self.apps.${system};
        }
      );

      overlays.default = final: _prev: { runner-provisioner = final.callPackage ./nix/package.nix { }; };

      nixosModules.default = import ./nix/module.nix self;
    };
}
