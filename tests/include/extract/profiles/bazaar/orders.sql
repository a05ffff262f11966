SELECT number AS order_id, changed AS updated_at, login AS customer_id, ordered_on AS placed_at,
       currency::text AS currency_code, total AS order_total, state AS status, total / 3 AS tax_total, total AS shop_note
FROM sales
