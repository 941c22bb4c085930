import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { faults } from "../../scripts/commits.ts"

const contributing = readFileSync(fileURLToPath(new URL("../../CONTRIBUTING.md", import.meta.url)), "utf8")

describe("messages of commits", () => {
  it("are taken as Conventional Commits are written", () => {
    const good = [
      "feat: tasks may be paused",
      "fix(lease): a renewal locks its rows in order",
      "feat(api)!: a run has no field `lag`",
      "perf(tick): one statement\n\nIt was two.\n\nBREAKING CHANGE: `tick` is gone",
      "docs: what a lease is\n",
      "Merge branch 'main' into attack",
      'Revert "feat: tasks may be paused"\n\nThis reverts commit 1234567.',
      `fix: ${"a".repeat(115)}`
    ]
    for (const message of good) assert.deepStrictEqual(faults(message), [], message)
  })

  it("are refused with what is wrong", () => {
    const bad = [
      ["", "begins with a type"],
      ["Tasks may be paused", "begins with a type"],
      ["feat tasks may be paused", "begins with a type"],
      ["feat:tasks may be paused", "begins with a type"],
      ["Feat: tasks may be paused", "begins with a type"],
      ["wip: tasks", "none of the types"],
      ["feat(The API): tasks", "one word in lower case"],
      ["feat(): tasks", "one word in lower case"],
      ["feat:  tasks", "neither begins nor ends"],
      ["feat: tasks may be paused.", "full stop"],
      [`fix: ${"a".repeat(116)}`, "121 characters"],
      ["fix: a\nb", "second line"],
      ["fix: a\n\nbreaking change: b", "BREAKING CHANGE"],
      ["fix: a\n\nBREAKING CHANGE b", "BREAKING CHANGE"],
      ["fixup! fix: a", "squashed"]
    ] as const
    for (const [message, said] of bad) assert.include(faults(message).join(), said, message)
  })

  it("are as CONTRIBUTING.md shows them", () => {
    const shown = [...contributing.matchAll(/`((?:feat|fix|refactor|docs|perf)(?:\(\w+\))?: [^`]+)`/g)].map(
      ([, text = ""]) => text
    )
    assert.isNotEmpty(shown)
    for (const message of shown) assert.deepStrictEqual(faults(message), [])
  })
})
