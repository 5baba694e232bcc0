"""Small topology files of every form, to be mutated."""

TREE = """# three layers
SwitchName=top Switches=p[0-1],s4 LinkSpeed=100
SwitchName=p0 Switches=s0,s1
SwitchName=p1 Switches=s[2-3]
SwitchName=s0 Nodes=tux[0-3,12,18-20]
SwitchName=s1 Nodes=tux[04-07]
SwitchName=s2 \\
    Nodes=r[0-1]n[0-1]
SwitchName=s3 Nodes=a,b
SwitchName=s4 Nodes=c
"""
BLOCKS = "BlockName=b0 Nodes=n[0-3]\nBlockName=b1 Nodes=n[4-9]\nBlockSizes=2,4\n"
DOCUMENT = """---
- topology: one
  cluster_default: true
  tree:
    switches:
      - switch: root
        children: s[1-2]
      - switch: s1
        nodes: node[01-02]
      - {switch: s2, nodes: "node[03-04]"}
- topology: two
  cluster_default: false
  block:
    block_sizes: [2, 4]
    blocks:
      - {block: b0, nodes: "gpu[0-1]"}
      - block: b1
        nodes: gpu[2-3]
- topology: three
  flat: true
"""
TOPOLOGIES = (("tree.conf", TREE), ("blocks.conf", BLOCKS), ("document.yaml", DOCUMENT))
