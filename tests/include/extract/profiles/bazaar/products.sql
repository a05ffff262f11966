SELECT id AS product_id, changed AS updated_at, title, description, released AS published_at
FROM wares
WHERE title IS NULL OR title NOT LIKE 'hidden%' -- per cent signs are meant literally
