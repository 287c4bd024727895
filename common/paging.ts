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
