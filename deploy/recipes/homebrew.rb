# For a tap: Formula/foremask.rb. tools/recipes.py fills in version and hash. OpenVINO and OpenCV have no
# sdist that builds in minutes, so pip brings their wheels: that is for a tap, not for homebrew-core.
class Foremask < Formula
  include Language::Python::Virtualenv

  desc "Masks and cut-outs of any video, on your own machine"
  homepage "https://pypi.org/project/foremask/"
  url "https://pypi.org/packages/source/f/foremask/foremask-@VERSION@.tar.gz"
  sha256 "@SHA256@"
  license "Apache-2.0"

  depends_on "python@3.13"

  on_macos do
    depends_on arch: :arm64
    depends_on macos: :sonoma
  end

  def install
    virtualenv_create(libexec, "python3.13")
    system "python3.13", "-m", "pip", "--python", libexec/"bin/python", "install", buildpath
    bin.install_symlink libexec/"bin/foremask"
    man1.install_symlink libexec/"share/man/man1/foremask.1"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/foremask --version")
    assert_match "INPUT is missing", shell_output("#{bin}/foremask mask 2>&1", 2)
  end
end
