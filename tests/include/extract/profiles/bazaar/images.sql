SELECT ware_id AS product_id, n AS image_id, url, shows AS variant_ids FROM pictures
