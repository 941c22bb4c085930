/** A block of code of a page. `terminal` marks what stays in a terminal of its own; `file` is the file that it shows. */
export interface Block {
  readonly lang: string
  readonly terminal: boolean
  readonly file: string | null
  readonly text: string
}

/** The blocks of a page, in order. */
export const blocksOf = (page: string): ReadonlyArray<Block> =>
  [...page.matchAll(/(?:^\[(examples\/[\w./-]+)\]\([^)]*\)\n\n)?^```(\w+)( terminal)?\n([^]*?)^```$/gm)].map(
    ([, file, lang = "", terminal, text = ""]) => ({ lang, terminal: terminal !== undefined, file: file ?? null, text })
  )
