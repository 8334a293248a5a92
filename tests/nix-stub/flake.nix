{
  description = "Imitates as much of nixpkgs as this project uses, so that its flake is evaluated and built offline";

  outputs =
    { self }:
    let
      lib = import ./lib.nix // {
        nixosSystem = import ./nixos.nix { inherit lib legacyPackages; };
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "aarch64-darwin" ] (
        system: import ./packages.nix { inherit lib system; }
      );
    in
    {
      inherit lib legacyPackages;
    };
}
