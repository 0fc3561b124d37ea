// Days of the calendar as "2026-11-28", in the time zone of the browser. No DOM.

const two = (n) => String(n).padStart(2, "0");
const DAY = /^(\d{4})-(\d{2})-(\d{2})$/;

/** Return the day of a Date. */
export const dayOf = (date) => `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

/** Return the Date at which an hour of a day begins. */
export function startOf(day, hour = 0) {
  const [, year, month, date] = DAY.exec(day).map(Number);
  return new Date(year, month - 1, date, hour);
}

/** Return whether a text is a day that exists. */
export const isDay = (text) => DAY.test(text) && dayOf(startOf(text)) === text;

/** Return the day that is `count` days later. */
export function addDays(day, count) {
  const date = startOf(day);
  date.setDate(date.getDate() + count);
  return dayOf(date);
}

/** Return the number of days from one day to another. */
export const daysBetween = (from, to) => Math.round((startOf(to) - startOf(from)) / 86_400_000);

/** Return the first and the last day of the month that is `count` months after that of `day`. */
export function monthOf(day, count = 0) {
  const date = startOf(day);
  const [year, month] = [date.getFullYear(), date.getMonth() + count];
  return { from: dayOf(new Date(year, month, 1)), to: dayOf(new Date(year, month + 1, 0)) };
}

/** Return all days from one to another. */
export function days(from, to) {
  const list = [];
  for (let day = from; day <= to; day = addDays(day, 1)) list.push(day);
  return list;
}
