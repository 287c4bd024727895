/**
 * The pages of a list, one after the other. `read` gets the cursor of the page before, undefined for the first. A cursor
 * that stands still ends them: it would page forever.
 */
export async function* pagesOf<Page extends { next: string | null }>(
  read: (after: string | undefined) => Promise<Page>,
): AsyncGenerator<Page> {
  let after: string | undefined
  for (;;) {
    const page = await read(after)
    yield page
    if (page.next === null || page.next === after) return
    after = page.next
  }
}

/**
 * The names below a folder are one range in the order of their bytes.
 * @param folder without a slash at its end; undefined: all names
 */
export function folderRange(folder: string | undefined): {
  /** the name after which a page begins, where the page before ended at `after` */
  from(after: string | undefined): string
  holds(name: string): boolean
} {
  const beginning = folder === undefined ? '' : `${folder}/`
  return {
    from: (after) => (after?.startsWith(beginning) ? after : beginning),
    holds: (name) => name.startsWith(beginning),
  }
}
